"""Run records: the requests of an engine with their answers, and replay of a record.

Every command that writes text asks `Engine.run`. A record is taken there and knows nothing of
tasks, chats or batches. To replay a record is to run its requests again.
"""
