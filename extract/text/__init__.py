"""Text of a clip, from files of text and of subtitles."""
