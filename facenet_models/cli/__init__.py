"""The commands of ``facenet`` that run networks; each is an entry point (``facenet.commands``)."""
