"""What a run leaves on the disk: whole checkpoints, its settings and its log, so that it goes on
where it was, however it ended.
"""
