"""`gptcli chat`: talk with a model, at a terminal or through a pipe.

At a terminal lines are edited, replies are streamed, and Ctrl-C stops only the reply; prompts and
notices go to stderr. On a pipe each message is one line and each reply is one line, so that line N
answers line N: a message that fails has an empty reply. Not here: the meaning of a line is in
`gptcli.cli.interactive.typed` and `gptcli.cli.interactive.slash`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Annotated

import typer

from gptcli.chat import Chat, Conversation, Keeper, check_sampling, last
from gptcli.chat_templates import choose, transcript
from gptcli.cli import signals
from gptcli.cli.interactive.slash import Commands
from gptcli.cli.interactive.typed import ReadLine, TypedLine, messages, piped
from gptcli.cli.output.records import json_line
from gptcli.cli.output.report import RunReport
from gptcli.cli.output.sink import Sink, opened
from gptcli.cli.recording import recording
from gptcli.cli.session import Session
from gptcli.errors import ExitCode, GptcliError, WriteFailed
from gptcli.inputs.prompt import decode_argument
from gptcli.options import Input, Output, Record, Sampling, Talk
from gptcli.options.moderation import ModeratedLoad
from gptcli.protocol import Completion

LINE_BREAK = re.compile(r"\r\n|\r|\n")


def chat(
    message: Annotated[
        str | None,
        typer.Argument(help="The first message; the conversation goes on.", show_default=False),
    ] = None,
    *,
    options: Chat,
    load: ModeratedLoad,
    sampling: Sampling,
    record: Record,
    talk: Talk,
) -> int:
    """Talk with a model.

    Ctrl-C stops a reply, Ctrl-D leaves, /help lists the commands.
    From a pipe each line is a message and gets a line of reply, its line breaks turned to spaces.
    A message of several lines stands between triple quotes.
    """
    check_sampling(sampling)
    names = options.user_name, options.bot_name
    transcript(*names, options.language)  # bad names fail before a model is loaded
    opening = None if message in (None, "-") else decode_argument(str(message), Input())
    before = str(last()) if options.continue_ else options.load
    with recording(record, "chat", load) as watch, opened(Output()) as out:
        session = Session.of(talk)
        engine = session.open_engine(load, notices=False, watch=watch)
        info = engine.info
        language: str = options.language
        if language == "auto" and info.folder is not None:  # a server is not asked
            from gptcli.checkpoints.tokenization.language import language_of

            language = language_of(engine.tokenizer) or "en"
        words = info.adapted.tokenizer_folder or info.folder
        template = choose(options.template, words, info.name, *names, language)
        conversation = Conversation(engine, template, sampling, options.system)
        session.note(*info.notices)
        dialogue = _Dialogue(conversation, out, options, session)
        if before is not None:
            dialogue.load(before)
        return dialogue.run(opening)


class _Dialogue:
    """A conversation, its output and its loop."""

    def __init__(
        self, conversation: Conversation, out: Sink, options: Chat, session: Session
    ) -> None:
        self._conversation, self._out, self._options = conversation, out, options
        self._jsonl, self._session = options.json, session
        self._typing = session.interactive
        keeper = Keeper(session.note) if self._typing and options.history else None
        self._commands = Commands(conversation, keeper, self._typing)
        self._left = False

    def load(self, name: str) -> None:
        """Go on with the conversation of a file. Raises MissingInput, BadInput."""
        said = self._commands.run(f"/load {name}").said
        self._session.note(*said if self._typing else ())

    def run(self, opening: str | None = None) -> int:
        """Answer messages until the end. On a pipe the first failure gives the exit code."""
        with ExitStack() as stack:
            if self._typing:
                stack.enter_context(signals.interruptible(self._conversation.cancel))
                stack.enter_context(signals.cleaning(self._commands.keep))
                self._greet()
            code = self._take(TypedLine(opening)) if opening is not None else 0
            read = self._reader(stack)
            for message in messages(read):
                failure = self._take(message)
                code = code or failure
                if self._left:
                    break
            self._session.note(*self._commands.parting())
            return 0 if self._typing else code

    def _reader(self, stack: ExitStack) -> ReadLine:
        if not self._typing or os.environ.get("TERM") in (None, "", "dumb"):
            return piped(self._session.stdin, prompting=self._typing)
        from gptcli.cli.interactive import line_editor

        return stack.enter_context(line_editor.reading(self._options.history, self._session.note))

    def _greet(self) -> None:
        if not self._session.talk.quiet:
            name, template = self._conversation.engine.info.name, self._conversation.template.name
            self._session.say(f"{name} ({template}). /help lists the commands, Ctrl-D leaves.")

    def _take(self, message: TypedLine) -> int:
        """Answer one message or run one command; report a failure and return its exit code."""
        text, conversation = message.text, self._conversation
        if message.error is not None:
            self._end(text, "", message.error)
            return self._fail(message.error)
        if not message.command:
            return self._show(text, conversation.reply(text))
        try:
            outcome = self._commands.run(text)
        except GptcliError as error:
            return self._fail(error)
        self._commands.keep()
        for line in outcome.said:
            self._session.say(line)
        self._left = outcome.leave
        if outcome.message is not None:
            return self._show(outcome.message, conversation.rephrase(outcome.message))
        if not outcome.retry:
            return ExitCode.OK
        said = conversation.turns[-2].content if conversation.turns else ""
        return self._show(said, conversation.retry())

    def _show(self, message: str, pieces: Iterator[str]) -> int:
        """Write a reply: streamed at a terminal, whole on a pipe."""
        report, error = RunReport(), None
        written: list[str] = []
        try:
            for piece in pieces:
                if report.first is None:
                    report.first = perf_counter() - report.started
                written.append(piece)
                if self._typing and not self._jsonl:
                    self._out.prose(piece)
        except WriteFailed:  # of standard output: the only file written here
            raise
        except GptcliError as failure:
            error = failure
        self._commands.keep()
        self._end(message, "".join(written), error)
        self._session.note(*self._conversation.take_notices())
        if error is not None:
            return self._fail(error)
        done = self._conversation.completion
        if self._session.talk.verbose and done is not None:
            known = f"{done.usage.cached_tokens} of {done.usage.prompt_tokens} prompt tokens known"
            report.add(done)
            talked = self._conversation
            closing = report.closing(talked.engine.info, talked.sampling)
            self._session.note(f"{closing}; {known}")
        filtered = done is not None and done.finish_reason == "content_filter"
        return ExitCode.FILTERED if filtered else ExitCode.OK

    def _end(self, message: str, reply: str, error: GptcliError | None) -> None:
        """Write what ends a reply."""
        if self._jsonl:
            self._out.write(_row(message, reply, self._conversation.completion, error))
        elif not self._typing:
            self._out.write((LINE_BREAK.sub(" ", reply) if error is None else "") + "\n")
        elif reply or error is None:
            self._out.write("\n")

    def _fail(self, error: GptcliError) -> int:
        self._session.error(error)
        return int(error.exit_code)


def _row(message: str, reply: str, done: Completion | None, error: GptcliError | None) -> str:
    """A message and its reply as a line of JSON; a failed message has `error`, and no reply."""
    shown: dict[str, object] = {"message": message, "reply": None, "finish_reason": "error"}
    if error is None and done is not None:
        shown |= {
            "reply": reply,
            "finish_reason": done.finish_reason,
            "usage": done.usage.to_dict(),
            "seed": done.seed,
            "model": done.model,
            "revision": done.revision,
        }
        if done.filter is not None:
            shown["filter"] = done.filter
    shown["error"] = error.to_dict() if error else None
    return json_line(shown)
