"""``livemind bench consensus``: several experts against one."""
