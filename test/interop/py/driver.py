#!/usr/bin/python3
"""Drives slixmpp for the interoperability tests.

One process is one client on one device. A command is a JSON object on one line of standard input, {"id": 1, "cmd":
"ping", ...}; its answer is {"id": 1, "ok": ...} or {"id": 1, "error": {...}} on one line of standard output. What the
client sees by itself is {"event": "message", ...}. js/driver.mjs speaks the same protocol for @xmpp/client, so that
one scenario runs with both.
"""
import asyncio
import base64
import hashlib
import io
import json
import logging
import os
import socket
import ssl
import sys
from pathlib import Path
from xml.etree import ElementTree

from slixmpp import JID, ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout, PresenceError
from slixmpp.stanza import StreamFeatures
from slixmpp.xmlstream import ElementBase, register_stanza_plugin
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

SID = '{urn:xmpp:sid:0}'
EVENT = '{http://jabber.org/protocol/pubsub#event}'
MODERATE = '{urn:xmpp:message-moderate:1}'
RETRACT = '{urn:xmpp:message-retract:1}'
BOOKMARKS = '{urn:xmpp:bookmarks:1}'
CONFERENCE = BOOKMARKS + 'conference'
EXTDISCO = '{urn:xmpp:extdisco:2}'
PUSH = '{urn:xmpp:push:0}'
PREAUTH = '{urn:xmpp:pars:0}preauth'
FORM = '{jabber:x:data}'


class Refused(Exception):
    """A command failed in a way that the test may expect: where it failed, and with which condition."""

    def __init__(self, stage, condition):
        super().__init__(f'{stage}: {condition}')
        self.stage, self.condition = stage, condition


# slixmpp prints now and then: that goes to the trace.
answers, sys.stdout = sys.stdout, sys.stderr


def emit(value):
    answers.write(json.dumps(value) + '\n')
    answers.flush()


def stanza_id(msg, by):
    for child in msg.xml.findall(SID + 'stanza-id'):
        if JID(child.get('by')) == by:
            return child.get('id')
    return ''


class Client(ClientXMPP):
    async def _pick_dns_answer(self, domain, service=None):
        """The test domain is in no DNS: it stands for the loopback address here, as a line in /etc/hosts would.

        slixmpp verifies a certificate against the name that it connects to, and against nothing when that is an
        address, so the name has to be used.
        """
        return domain, '127.0.0.1', self.address[1]


class TokenFeature(ElementBase):
    """The server takes invitations (XEP-0445 3)."""
    name, namespace, plugin_attrib = 'register', 'urn:xmpp:ibr-token:0', 'ibr_token'


class Driver:
    def __init__(self):
        self.xmpp = None

    # Commands. Each returns what goes into "ok".

    async def connect(self, jid, password, port, ca, tls, invitation=None):
        xmpp = self.xmpp = Client(jid, password)
        xmpp['feature_mechanisms'].sasl_callback = self.credentials
        xmpp.ca_certs = Path(ca)
        xmpp.use_ipv6 = False
        xmpp.roster.auto_authorize = None  # the test answers subscription requests itself
        xmpp.roster.auto_subscribe = False
        for plugin in ('0030', '0199', '0198', '0280', '0313', '0191', '0184', '0203', '0359', '0045', '0249', '0421'):
            xmpp.register_plugin('xep_' + plugin)
        self.listen(xmpp)
        outcome = asyncio.get_running_loop().create_future()

        def settle(value):
            if not outcome.done():
                outcome.set_result(value)

        if invitation is not None:
            self.accept(invitation, settle)

        # slixmpp tries its mechanisms one after the other until it has no more or the server has enough of it; the last
        # refusal is what a person would be told.
        refusal = []
        xmpp.add_event_handler('failed_auth', lambda stanza: refusal.append(stanza['condition']))
        xmpp.add_event_handler('failed_all_auth', lambda _: settle(Refused('auth', (refusal or ['no mechanism'])[-1])))
        xmpp.add_event_handler('ssl_invalid_chain', lambda error: settle(Refused('tls', str(error))))
        xmpp.add_event_handler('connection_failed', lambda error: settle(
            Refused('tls' if isinstance(error, ssl.SSLError) else 'connect', str(error))))
        xmpp.add_event_handler('disconnected', lambda reason: settle(
            Refused('auth', refusal[-1]) if refusal else Refused('stream', str(reason))))
        xmpp.add_event_handler('stream_negotiated', lambda _: settle(None))
        xmpp.connect((xmpp.boundjid.domain, port), use_ssl=tls == 'direct', force_starttls=tls != 'direct')
        result = await outcome
        if result is not None:
            xmpp.cancel_connection_attempt()
            xmpp.abort()
            raise result
        return {'jid': str(xmpp.boundjid), 'sm': bool(xmpp['xep_0198'].sm_id)}

    def accept(self, token, settle):
        """Has slixmpp make its account with an invitation before it logs in.

        Its registration (XEP-0077) is used as it is; the token (XEP-0445), of which it knows nothing, is shown before.
        """
        xmpp = self.xmpp
        xmpp.register_plugin('xep_0077')
        register_stanza_plugin(StreamFeatures, TokenFeature)

        async def register(_):
            xmpp._always_send_everything = True  # before there is a session
            try:
                await xmpp.make_iq_set(sub=ElementTree.Element(PREAUTH, token=token)).send(timeout=20)
                await xmpp['xep_0077'].get_registration(timeout=20)
                iq = xmpp.make_iq_set()
                iq['register']['username'] = xmpp.boundjid.user
                iq['register']['password'] = xmpp.password
                await iq.send(timeout=20)
            except IqError as error:
                settle(Refused('invitation', error.condition))
            xmpp._always_send_everything = False

        xmpp.register_feature(TokenFeature.plugin_attrib, register, restart=False, order=50)  # between TLS and logging in

    async def invite(self):
        """Makes an invitation with the server's command for it (XEP-0401 5.1) and tells its URI."""
        self.xmpp.register_plugin('xep_0050')
        answer = await self.xmpp['xep_0050'].send_command(self.xmpp.boundjid.domain, 'urn:xmpp:invite#invite', timeout=20)
        for field in answer.xml.iter(FORM + 'field'):
            if field.get('var') == 'uri':
                return {'uri': field.findtext(FORM + 'value')}

    def credentials(self, required, optional):
        """What slixmpp uses to log in, without channel binding.

        slixmpp 1.8.3 knows no binding but tls-unique, takes it for available under TLS 1.3, which has none, and tells a
        server with better ones that it believes them missing, which such a server has to refuse (RFC 5802 6).
        """
        found = self.xmpp['feature_mechanisms']._default_credentials(required, optional)
        return {**found, 'channel_binding': None} if 'channel_binding' in found else found

    async def reconnect(self, port):
        """Connects again after a cut and tells whether the stream was resumed or a new one was bound."""
        outcome = asyncio.get_running_loop().create_future()

        def settle(value):
            if not outcome.done():
                outcome.set_result(value)

        self.xmpp.add_event_handler('session_resumed', lambda _: settle(True), disposable=True)
        self.xmpp.add_event_handler('session_start', lambda _: settle(False), disposable=True)
        self.xmpp.connect((self.xmpp.boundjid.domain, port))
        return {'resumed': await outcome}

    async def upload(self, name, type, content):
        """Uploads a file and tells its address and what a GET finds there (XEP-0363)."""
        # The plugin's web client asks the system for names and authorities.
        os.environ['SSL_CERT_FILE'] = str(self.xmpp.ca_certs)
        look_up = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *args, **kwargs: look_up('127.0.0.1', *args, **kwargs)
        self.xmpp.register_plugin('xep_0363')
        # Its own search waits for coroutines in a way that Python 3.11 has no more.
        disco, plugin = self.xmpp['xep_0030'], self.xmpp['xep_0363']
        items = await disco.get_items(jid=self.xmpp.boundjid.domain, timeout=20)
        for jid, _, _ in items['disco_items']['items']:
            if str(jid).startswith('upload.'):
                info = await disco.get_info(jid=jid, timeout=20)
                if 'urn:xmpp:http:upload:0' in info['disco_info']['features']:
                    plugin.upload_service, plugin.max_file_size = info['from'], 1 << 20
        url = await plugin.upload_file(
            Path(name), content_type=type, input_file=io.BytesIO(content.encode()), timeout=20)
        from aiohttp import ClientSession
        async with ClientSession() as session, session.get(url, headers={'Range': 'bytes=1-3'}) as response:
            return {'url': url, 'type': response.headers['Content-Type'], 'status': response.status,
                    'part': (await response.read()).decode()}

    async def presence(self, to=None, type=None, status=None, priority=None):
        self.xmpp.send_presence(pto=to, ptype=type, pstatus=status, ppriority=priority)

    async def roster(self):
        # With roster versioning the answer may be empty; slixmpp's own copy is what an application reads.
        await self.xmpp.get_roster()
        roster = self.xmpp.client_roster
        return [{'jid': str(jid), 'subscription': roster[jid]['subscription'],
                 'ask': 'subscribe' if roster[jid]['pending_out'] else ''} for jid in roster.keys()]

    async def message(self, to, body, id, receipt=False, type='chat'):
        msg = self.xmpp.make_message(mto=to, mbody=body, mtype=type)
        msg['id'] = id
        if receipt:
            msg['request_receipt'] = True
        msg.send()

    async def carbons(self):
        await self.xmpp['xep_0280'].enable()

    async def ping(self, to=None):
        await self.xmpp['xep_0199'].send_ping(JID(to) if to else self.xmpp.boundjid.bare, timeout=20)

    async def disco(self, to=None):
        info = await self.xmpp['xep_0030'].get_info(jid=to or self.xmpp.boundjid.domain)
        return sorted(info['disco_info']['features'])

    async def archive(self, max, peer=None, after=None, before=None):
        peer, mam = JID(peer) if peer else None, self.xmpp['xep_0313']
        if before == '':  # the last page; only the iterator can ask for it
            iq = await mam.retrieve(with_jid=peer, rsm={'max': max}, iterator=True, reverse=True).next()
        else:
            rsm = {'max': max, 'after': after, 'before': before}
            iq = await mam.retrieve(with_jid=peer, rsm={k: v for k, v in rsm.items() if v is not None})
        page = []
        for msg in iq['mam']['results']:  # filled by the plugin
            result = msg['mam_result']
            inner = result['forwarded']['stanza']
            page.append({'archive': result['id'], 'id': inner['id'], 'body': inner['body'], 'from': str(inner['from']),
                         'to': str(inner['to']), 'delayed': bool(result['forwarded']['delay']['stamp'])})
        fin = iq['mam_fin']
        count = fin['rsm']['count']
        return {'page': page, 'complete': fin.xml.get('complete') in ('true', '1'), 'first': fin['rsm']['first'],
                'last': fin['rsm']['last'], 'count': int(count) if count else -1}

    async def block(self, jid):
        await self.xmpp['xep_0191'].block(JID(jid))

    async def unblock(self, jid):
        await self.xmpp['xep_0191'].unblock(JID(jid))

    async def blocked(self):
        return sorted(str(jid) for jid in (await self.xmpp['xep_0191'].get_blocked())['blocklist']['items'])

    # Rooms, with slixmpp's plugin for XEP-0045. A refusal is an IqError, or a PresenceError when entering.

    async def room_join(self, room, nick, password=None):
        result = await self.xmpp['xep_0045'].join_muc_wait(JID(room), nick, password=password, maxstanzas=10, timeout=20)
        _, subject, occupants, history = result
        return {'occupants': sorted(str(p['from'].resource) for p in occupants), 'history': [m['body'] for m in history],
                'subject': subject['subject']}

    async def room_configure(self, room, **values):
        muc = self.xmpp['xep_0045']
        form = await muc.get_room_config(JID(room))
        fields = form.get_fields()
        form['type'] = 'submit'
        for name, value in values.items():
            fields['muc#roomconfig_' + name]['value'] = value
        await muc.set_room_config(JID(room), form)

    async def room_role(self, room, nick, role):
        await self.xmpp['xep_0045'].set_role(JID(room), nick, role)

    async def room_affiliation(self, room, jid, affiliation):
        await self.xmpp['xep_0045'].set_affiliation(JID(room), affiliation, jid=JID(jid))

    async def room_list(self, room, affiliation):
        return sorted(str(jid) for jid in await self.xmpp['xep_0045'].get_affiliation_list(JID(room), affiliation))

    async def room_seen(self, room):
        muc = self.xmpp['xep_0045']
        return {nick: [muc.get_jid_property(JID(room), nick, name) for name in ('affiliation', 'role')] for nick in muc.get_roster(JID(room))}

    async def room_subject(self, room, subject):
        self.xmpp['xep_0045'].set_subject(JID(room), subject)

    async def room_invite(self, room, jid):
        self.xmpp['xep_0045'].invite(JID(room), JID(jid), reason='come')

    async def room_ping(self, to):
        return bool(await self.xmpp['xep_0199'].send_ping(JID(to), timeout=20))

    async def room_archive(self, room):
        iq = await self.xmpp['xep_0313'].retrieve(jid=JID(room), rsm={'max': 50})
        inner = [msg['mam_result']['forwarded']['stanza'] for msg in iq['mam']['results']]
        return ['retracted' if msg.xml.find(RETRACT + 'retracted') is not None else msg['body'] for msg in inner]

    async def room_moderate(self, room, id, reason):
        # slixmpp 1.8.3 has the XEP's version 0.2 alone, with another namespace.
        iq = self.xmpp.make_iq_set(ito=room)
        moderate = ElementTree.SubElement(iq.xml, MODERATE + 'moderate', id=id)
        ElementTree.SubElement(moderate, RETRACT + 'retract')
        ElementTree.SubElement(moderate, MODERATE + 'reason').text = reason
        await iq.send(timeout=20)

    async def room_leave(self, room, nick):
        self.xmpp['xep_0045'].leave_muc(JID(room), nick)

    async def room_destroy(self, room):
        await self.xmpp['xep_0045'].destroy(JID(room), reason='over')

    async def personal(self, nodes):
        """Uses personal events from now on and asks to hear of nodes."""
        for plugin in ('0004', '0048', '0049', '0054', '0060', '0084', '0115', '0163', '0222', '0223'):
            self.xmpp.register_plugin('xep_' + plugin)
        self.xmpp.add_event_handler('pubsub_publish', lambda msg: self.on_event('publish', msg))
        self.xmpp.add_event_handler('pubsub_retract', lambda msg: self.on_event('retract', msg))
        self.xmpp['xep_0163'].add_interest(nodes)
        await self.xmpp['xep_0115'].update_caps()
        self.xmpp.send_presence()

    def on_event(self, what, msg):
        items = msg.xml.find(EVENT + 'event/' + EVENT + 'items')
        for item in items:
            emit({'event': 'personal', 'type': what, 'from': str(msg['from']), 'status': items.get('node'), 'id': item.get('id')})

    async def avatar_publish(self, image, mime, access):
        image = base64.b64decode(image)
        options = self.options(access_model=access)
        digest = hashlib.sha1(image).hexdigest()
        data = self.xmpp['xep_0084'].stanza.Data()
        data['value'] = image
        await self.xmpp['xep_0060'].publish(None, 'urn:xmpp:avatar:data', id=digest, payload=data.xml, options=options)
        metadata = self.xmpp['xep_0084'].stanza.MetaData()
        metadata.add_info(digest, mime, len(image))
        await self.xmpp['xep_0060'].publish(None, 'urn:xmpp:avatar:metadata', id=digest, payload=metadata.xml, options=options)
        return digest

    async def avatar_read(self, jid, id):
        answer = await self.xmpp['xep_0084'].retrieve_avatar(jid, id)
        for item in answer['pubsub']['items']:
            return base64.b64encode(item['avatar_data']['value']).decode()

    async def vcard_photo(self, jid=None):
        answer = await self.xmpp['xep_0054'].get_vcard(jid)
        return base64.b64encode(answer['vcard_temp']['PHOTO']['BINVAL'] or b'').decode()

    async def vcard_publish(self, name):
        card = self.xmpp['xep_0054'].make_vcard()
        card['FN'] = name
        await self.xmpp['xep_0054'].publish_vcard(card)

    async def vcard_name(self, jid=None):
        answer = await self.xmpp['xep_0054'].get_vcard(jid)
        return answer['vcard_temp']['FN']

    def options(self, **values):
        form = self.xmpp['xep_0004'].make_form('submit')
        form.add_field('FORM_TYPE', ftype='hidden', value='http://jabber.org/protocol/pubsub#publish-options')
        for name, value in values.items():
            form.add_field('pubsub#' + name, value=value)
        return form

    async def bookmark_add(self, room, name, nick=None):
        conference = ElementTree.Element(CONFERENCE, name=name, autojoin='true')
        if nick:
            ElementTree.SubElement(conference, BOOKMARKS + 'nick').text = nick
        await self.xmpp['xep_0060'].publish(None, 'urn:xmpp:bookmarks:1', id=room, payload=conference, options=self.options(
            persist_items='true', max_items='max', send_last_published_item='never', access_model='whitelist'))

    async def bookmark_list(self, jid=None):
        answer = await self.xmpp['xep_0060'].get_items(jid, 'urn:xmpp:bookmarks:1')
        return [item['id'] + ' ' + item.xml.find(CONFERENCE).get('name') for item in answer['pubsub']['items']]

    async def bookmark_old_list(self):
        answer = await self.xmpp['xep_0048'].get_bookmarks(method='xep_0049')
        return [str(c['jid']) + ' ' + c['name'] for c in answer['private']['bookmarks']['conferences']]

    async def bookmark_old_set(self, rooms):
        bookmarks = self.xmpp['xep_0048'].stanza.Bookmarks()
        for room, name in rooms.items():
            bookmarks.add_conference(room, 'nick', autojoin=True, name=name)
        await self.xmpp['xep_0048'].set_bookmarks(bookmarks, method='xep_0049')

    async def event_retract(self, node, id):
        await self.xmpp['xep_0060'].retract(None, node, id, notify=True)

    async def event_nodes(self, jid):
        answer = await self.xmpp['xep_0060'].get_nodes(jid)
        return sorted(node for _, node, _ in answer['disco_items']['items'] if node)

    async def services(self, type):
        """slixmpp 1.8 knows nothing of XEP-0215."""
        iq = self.xmpp.make_iq_get(ito=self.xmpp.boundjid.domain)
        iq.append(ElementTree.Element(EXTDISCO + 'services', type=type))
        answer = await iq.send()
        return [dict(s.attrib) for s in answer.xml.iter(EXTDISCO + 'service')]

    async def push_enable(self, service, node, secret=None):
        """slixmpp 1.8 knows nothing of XEP-0357."""
        self.xmpp.register_plugin('xep_0004')
        enable = ElementTree.Element(PUSH + 'enable', jid=service, node=node)
        if secret:
            enable.append(self.options().xml)
            ElementTree.SubElement(ElementTree.SubElement(enable[0], FORM + 'field', var='secret'), FORM + 'value').text = secret
        iq = self.xmpp.make_iq_set(ito=self.xmpp.boundjid.bare)
        iq.append(enable)
        await iq.send()

    async def push_disable(self, service, node=None):
        disable = ElementTree.Element(PUSH + 'disable', jid=service)
        if node:
            disable.set('node', node)
        iq = self.xmpp.make_iq_set(ito=self.xmpp.boundjid.bare)
        iq.append(disable)
        await iq.send()

    async def disconnect(self):
        await self.xmpp.disconnect()

    # Events.

    def listen(self, xmpp):
        xmpp.register_handler(Callback('driver presence', MatchXPath('{jabber:client}presence'), self.on_presence))
        xmpp.register_handler(Callback('driver message', MatchXPath('{jabber:client}message'), self.on_message))
        xmpp.add_event_handler('carbon_received', lambda msg: self.on_carbon('received', msg))
        xmpp.add_event_handler('carbon_sent', lambda msg: self.on_carbon('sent', msg))
        xmpp.add_event_handler('receipt_received', lambda msg: emit(
            {'event': 'receipt', 'from': str(msg['from']), 'receipt': msg['receipt']}))
        xmpp.add_event_handler('blocked', lambda iq: emit(
            {'event': 'block', 'jids': sorted(str(jid) for jid in iq['block']['items'])}))
        xmpp.add_event_handler('unblocked', lambda iq: emit(
            {'event': 'unblock', 'jids': sorted(str(jid) for jid in iq['unblock']['items'])}))
        xmpp.add_event_handler('roster_update', self.on_roster)
        xmpp.add_event_handler('groupchat_direct_invite', lambda msg: emit({'event': 'invitation', 'from': str(msg['from'])}))
        xmpp.add_event_handler('disconnected', lambda reason: emit({'event': 'disconnected'}))

    def on_presence(self, stanza):
        emit({'event': 'presence', 'from': str(stanza['from']), 'to': str(stanza['to']),
              'type': stanza.xml.get('type', ''), 'status': stanza['status'], 'condition':
              stanza['error']['condition'] if stanza.xml.get('type') == 'error' else ''})

    def on_message(self, msg):
        if msg.xml.find('{urn:xmpp:carbons:2}sent') is not None or \
                msg.xml.find('{urn:xmpp:carbons:2}received') is not None or \
                msg.xml.find('{urn:xmpp:mam:2}result') is not None:
            return
        retract = msg.xml.find(RETRACT + 'retract')
        if retract is not None and retract.find(MODERATE + 'moderated') is not None:
            emit({'event': 'moderated', 'from': str(msg['from']), 'id': retract.get('id')})
            return
        failed = msg.xml.get('type') == 'error'
        if not failed and msg.xml.find('{jabber:client}body') is None:
            return
        emit({'event': 'message', 'from': str(msg['from']), 'to': str(msg['to']), 'id': msg['id'], 'body': msg['body'],
              'type': msg.xml.get('type', 'normal'),
              'archive': stanza_id(msg, msg['from'].bare if msg['type'] == 'groupchat' else self.xmpp.boundjid.bare),
              'delayed': msg.xml.find('{urn:xmpp:delay}delay') is not None,
              'condition': msg['error']['condition'] if failed else ''})

    def on_carbon(self, direction, msg):
        inner = msg['carbon_' + direction]
        if inner['body']:
            emit({'event': 'carbon', 'direction': direction, 'from': str(inner['from']), 'to': str(inner['to']),
                  'id': inner['id'], 'body': inner['body'], 'archive': stanza_id(inner, self.xmpp.boundjid.bare)})

    def on_roster(self, iq):
        if iq['type'] != 'set':
            return
        for jid, item in iq['roster']['items'].items():
            emit({'event': 'roster', 'jid': str(jid), 'subscription': item['subscription'], 'ask': item['ask']})

    async def run(self, request):
        number, name = request.pop('id'), request.pop('cmd')
        args = request.get('args') or {}
        try:
            emit({'id': number, 'ok': await getattr(self, name)(**args)})
        except Refused as error:
            emit({'id': number, 'error': {'stage': error.stage, 'condition': error.condition}})
        except IqError as error:
            emit({'id': number, 'error': {'stage': 'iq', 'condition': error.condition}})
        except PresenceError as error:
            emit({'id': number, 'error': {'stage': 'presence', 'condition': error.condition}})
        except IqTimeout:
            emit({'id': number, 'error': {'stage': 'iq', 'condition': 'timeout'}})
        except Exception as error:  # a bug in the driver; the test shows it
            emit({'id': number, 'error': {'stage': 'driver', 'condition': f'{type(error).__name__}: {error}'}})


async def main():
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format='%(levelname)s %(name)s %(message)s')
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    driver, running = Driver(), set()
    while line := await reader.readline():
        task = asyncio.create_task(driver.run(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)

asyncio.run(main())
