"""Who gets into the server: keys, tickets for browsers' web sockets, pages of other origins."""
