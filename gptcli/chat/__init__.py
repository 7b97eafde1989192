"""Conversations with a model: turns, options, and the file of a conversation."""

from gptcli.chat.conversation import Chat, Conversation, check_sampling
from gptcli.chat.saved import load, save

__all__ = ["Chat", "Conversation", "check_sampling", "load", "save"]
