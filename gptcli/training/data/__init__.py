"""From files to documents, from documents to token ids on disk, and from these to pieces in an
order.
"""
