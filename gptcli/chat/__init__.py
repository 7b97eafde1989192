"""Talking with a model: a conversation, its options, and the file it can be kept in."""

from gptcli.chat.conversation import Chat, Conversation, check_sampling
from gptcli.chat.saved import load, save

__all__ = ["Chat", "Conversation", "check_sampling", "load", "save"]
