"""Whether files of a model are the ones they were: digests of content, and checksums in our own."""
