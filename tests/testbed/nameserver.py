"""nameserver.py ADDRESS LOG: knows no name (NXDOMAIN), and writes each one it is asked for to LOG, as `TYPE NAME`."""
import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
with open(sys.argv[2], 'a', buffering=1) as log:
    while True:
        query, sender = server.recvfrom(4096)
        labels, at = [], 12
        while at < len(query) and query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode('ascii', 'replace'))
            at += 1 + query[at]
        kind = int.from_bytes(query[at + 1:at + 3], 'big')
        log.write(f"{kind} {'.'.join(labels)}\n")
        # Answer, recursion available, no such name; the question and nothing else.
        server.sendto(query[:2] + b'\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00' + query[12:at + 5], sender)
