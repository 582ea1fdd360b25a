#!/usr/bin/python3
"""A component (XEP-0114) made with slixmpp that answers each chat message with the same text.

Arguments: domain, secret, port on the loopback address. Prints "ready" when it is let in and ends with its input.
"""
import asyncio
import logging
import sys

from slixmpp.componentxmpp import ComponentXMPP


class Echo(ComponentXMPP):
    def __init__(self, domain, secret, port):
        super().__init__(domain, secret, '127.0.0.1', port)
        self.register_plugin('xep_0030')
        self.register_plugin('xep_0199')
        self.add_event_handler('session_start', lambda _: print('ready', flush=True))
        self.add_event_handler('message', self.answer)

    def answer(self, msg):
        if msg['type'] == 'chat':
            self.send_message(mto=msg['from'], mfrom=msg['to'], mtype='chat', mbody='echo: ' + msg['body'])


async def main():
    echo = Echo(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    echo.connect()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await echo.disconnect()


logging.basicConfig(level=logging.DEBUG)
asyncio.run(main())
