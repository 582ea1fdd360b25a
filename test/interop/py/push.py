#!/usr/bin/python3
"""A push service (XEP-0357 3): a component (XEP-0114) made with slixmpp.

Arguments: domain, component secret, port on the loopback address. Prints "ready" when it is let in, then one JSON object
for each notification: node, secret, count, and what else the summary tells. A notification for the node "gone" is answered
with item-not-found, one without the publish option "secret" with not-authorized. Ends with its input.
"""
import asyncio
import json
import logging
import sys

from slixmpp.componentxmpp import ComponentXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

COMPONENT = '{jabber:component:accept}'
PUBSUB = '{http://jabber.org/protocol/pubsub}'
FORM = '{jabber:x:data}'


def fields(form):
    return {f.get('var'): f.findtext(FORM + 'value') for f in form.findall(FORM + 'field')} if form is not None else {}


class Push(ComponentXMPP):
    def __init__(self, domain, secret, port):
        super().__init__(domain, secret, '127.0.0.1', port)
        self.register_plugin('xep_0030')
        self['xep_0030'].add_identity(category='pubsub', itype='push')
        self.add_event_handler('session_start', lambda _: print('ready', flush=True))
        self.register_handler(Callback('publish', MatchXPath(COMPONENT + 'iq/' + PUBSUB + 'pubsub'), self.published))

    def published(self, iq):
        pubsub = iq.xml.find(PUBSUB + 'pubsub')
        publish = pubsub.find(PUBSUB + 'publish')
        options = fields(pubsub.find(PUBSUB + 'publish-options/' + FORM + 'x'))
        summary = fields(publish.find(PUBSUB + 'item/{urn:xmpp:push:0}notification/' + FORM + 'x'))
        condition = None
        if publish.get('node') == 'gone':
            condition = 'item-not-found'
        elif 'secret' not in options:
            condition = 'not-authorized'
        print(json.dumps({'from': str(iq['from']), 'node': publish.get('node'), 'secret': options.get('secret'), 'refused': condition,
                          'type': summary.pop('FORM_TYPE', None), 'count': summary.pop('message-count', None), 'more': summary}), flush=True)
        reply = iq.reply()
        if condition:
            reply['type'] = 'error'
            reply['error']['condition'] = condition
        reply.send()


async def main():
    push = Push(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    push.connect()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await push.disconnect()


logging.basicConfig(level=logging.DEBUG)
asyncio.run(main())
