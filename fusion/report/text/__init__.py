"""What the page says in words: the verdict, the findings, the commands, paths without the machine."""
