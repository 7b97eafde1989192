"""Run records: what an engine was asked and what it answered, and the same run once more.

Every command that writes text asks `Engine.run`, so a record is taken there and knows nothing of
tasks, chats or batches; and to repeat a run its requests are asked again.
"""
