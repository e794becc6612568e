"""`make bench`: what the servers do per CPU-second, on this machine, with everything on.

wire        client frames ready to write, and how answers are counted without decoding them
machine     CPU clocks of other processes, pinning, file limits, the machine's description
loadclient  the load client: one process, epoll, thousands of sockets
remote      the bench's handle on a process of its own
bareloop    the kernel's limit: a loop that writes ready frames and does nothing else
cluster     Valkey, pods and the API as child processes
dataset     people and channels written straight through the storage ports
scenarios   one function per line of the table
report      targets, the table, latest.json
"""
