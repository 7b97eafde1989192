"""Conversations with a model: turns, options, and the file of a conversation."""

from gptcli.chat.conversation import Conversation, check_sampling
from gptcli.chat.kept import Keeper, last
from gptcli.chat.options import Chat
from gptcli.chat.saved import load, names, place, save, told

__all__ = [
    "Chat",
    "Conversation",
    "Keeper",
    "check_sampling",
    "last",
    "load",
    "names",
    "place",
    "save",
    "told",
]
