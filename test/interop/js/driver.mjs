// Drives @xmpp/client for the interoperability tests; the protocol on standard input and output is py/driver.py's.
//
// @xmpp/client is a small core: streams, TLS, SASL, IQs and stream management are its own, extensions are written by
// who uses it. So this file writes them, as an application on top of it does.
import dns from "node:dns";
import net from "node:net";
import readline from "node:readline";
import { client, jid, xml } from "@xmpp/client";
import { WebSocket } from "ws";
import { extensions } from "./extensions.mjs";

const CARBONS = "urn:xmpp:carbons:2";
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";
const FORWARD = "urn:xmpp:forward:0";
const RECEIPTS = "urn:xmpp:receipts";
const BLOCKING = "urn:xmpp:blocking";
const ROSTER = "jabber:iq:roster";
const DISCO = "http://jabber.org/protocol/disco#info";
const PING = "urn:xmpp:ping";
const SID = "urn:xmpp:sid:0";

// The test domain is in no DNS: it stands for the loopback address here, as a line in /etc/hosts would.
dns.lookup = (host, options, callback) => {
  if (typeof options === "function") callback = options;
  if (options?.all) callback(null, [{ address: "127.0.0.1", family: 4 }]);
  else callback(null, "127.0.0.1", 4);
};
net.setDefaultAutoSelectFamily?.(false);
globalThis.WebSocket ??= WebSocket; // which browsers have, and this version of Node has not

class Refused extends Error {
  constructor(stage, condition) {
    super(`${stage}: ${condition}`);
    Object.assign(this, { stage, condition });
  }
}

const emit = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const log = (direction, element) => process.stderr.write(`${direction} ${element}\n`);

let xmpp;
let me; // the own bare address
let results = new Map(); // archive query id -> its results so far

function refusal(error) {
  if (error.name === "SASLError") return new Refused("auth", error.condition);
  if (error.name === "StreamError") return new Refused("stream", error.condition);
  if (error.name === "StanzaError") return new Refused("iq", error.condition);
  if (/CERT|TLS|ERR_SSL|SELF_SIGNED|ISSUER|SIGNATURE/.test(error.code ?? ""))
    return new Refused("tls", `${error.code} ${error.message}`);
  return new Refused("driver", `${error.name}: ${error.message}`);
}

// countAnswer makes up for a fault of @xmpp/client 0.14.0: its IQ caller takes the answers it waits for before stream
// management sees them, so they are missing from the count of handled stanzas and the server, told too low a number,
// sends again on resumption what the client has had (XEP-0198 5).
function countAnswer(element) {
  const { id, type } = element.attrs;
  const answer = element.name === "iq" && (type === "result" || type === "error");
  if (answer && xmpp.iqCaller.handlers.has(id)) xmpp.streamManagement.inbound += 1;
}

const stanzaID = (stanza, by = me) =>
  stanza.getChildren("stanza-id", SID).find((c) => c.attrs.by === by)?.attrs.id ?? "";

const condition = (stanza) =>
  stanza.attrs.type === "error"
    ? (stanza.getChild("error")?.children.find((c) => c.name && c.name !== "text")?.name ?? "")
    : "";

function onMessage(stanza) {
  const result = stanza.getChild("result", MAM);
  if (result) {
    results.get(result.attrs.queryid)?.push(result);
    return;
  }
  const { from = "", to = "", id = "", type = "normal" } = stanza.attrs;
  const own = jid(from).bare().toString() === me;
  for (const direction of ["sent", "received"]) {
    const copy = stanza.getChild(direction, CARBONS);
    if (!copy) continue;
    // XEP-0280 11: a carbon from anybody but the own account is a forgery.
    if (!own) return emit({ event: "forged", from });
    const inner = copy.getChild("forwarded", FORWARD).getChild("message");
    const body = inner.getChildText("body");
    if (body) {
      const { from, to, id } = inner.attrs;
      emit({ event: "carbon", direction, from, to, id, body, archive: stanzaID(inner) });
    }
    return;
  }
  const invitation = stanza.getChild("x", "jabber:x:conference");
  if (invitation) return emit({ event: "invitation", from });
  const retraction = stanza.getChild("retract", "urn:xmpp:message-retract:1");
  if (retraction?.getChild("moderated")) return emit({ event: "moderated", from, id: retraction.attrs.id });
  const receipt = stanza.getChild("received", RECEIPTS);
  if (receipt) return emit({ event: "receipt", from, receipt: receipt.attrs.id });
  const body = stanza.getChildText("body") ?? "";
  if (!body && type !== "error") return;
  if (stanza.getChild("request", RECEIPTS) && !stanza.getChild("delay") && type !== "error")
    xmpp.send(xml("message", { to: from, type }, xml("received", { xmlns: RECEIPTS, id })));
  const delayed = stanza.getChild("delay", "urn:xmpp:delay") !== undefined;
  const archive = stanzaID(stanza, type === "groupchat" ? jid(from).bare().toString() : me);
  emit({ event: "message", from, to, id, body, type, archive, delayed, condition: condition(stanza) });
}

function onPresence(stanza) {
  const { from = "", to = "", type = "" } = stanza.attrs;
  const status = stanza.getChildText("status") ?? "";
  emit({ event: "presence", from, to, type, status, condition: condition(stanza) });
}

// onPush answers a push from the own server; XEP-0191 and RFC 6121 2.1.6: from anybody else it is refused.
const onPush = (tell) => (context) => {
  const from = context.stanza.attrs.from;
  if (from && from !== me) return undefined;
  tell(context.element);
  return true;
};

const items = (element) => element.getChildren("item").map((item) => item.attrs.jid).sort();

const commands = {
  async connect({ jid: address, password, port, tls }) {
    const { local, domain, resource } = jid(address);
    me = `${local}@${domain}`;
    const service = {
      direct: `xmpps://${domain}:${port}`,
      starttls: `xmpp://${domain}:${port}`,
      websocket: `wss://${domain}:${port}/xmpp-websocket`,
    }[tls];
    xmpp = client({ service, domain, username: local, password, resource });
    xmpp.timeout = 15_000;
    xmpp.reconnect.stop(); // the test says when
    xmpp.on("element", (element) => log("<", element));
    xmpp.prependListener("element", countAnswer);
    xmpp.on("send", (element) => log(">", element));
    xmpp.on("stanza", (stanza) => {
      if (stanza.name === "message") onMessage(stanza);
      if (stanza.name === "presence") onPresence(stanza);
    });
    xmpp.on("disconnect", () => emit({ event: "disconnected" }));
    xmpp.iqCallee.set(ROSTER, "query", onPush((query) => {
      for (const { attrs } of query.getChildren("item"))
        emit({ event: "roster", jid: attrs.jid, subscription: attrs.subscription ?? "none", ask: attrs.ask ?? "" });
    }));
    xmpp.iqCallee.set(BLOCKING, "block", onPush((list) => emit({ event: "block", jids: items(list) })));
    xmpp.iqCallee.set(BLOCKING, "unblock", onPush((list) => emit({ event: "unblock", jids: items(list) })));
    const full = await new Promise((resolve, reject) => {
      xmpp.on("error", (error) => {
        log("!", `${error.code ?? error.name} ${error.message}`);
        reject(error);
      });
      xmpp.start().then(resolve, reject);
    });
    // Stream management is enabled after "online", and nothing tells when; until then nothing is counted.
    const sm = xmpp.streamManagement;
    const until = Date.now() + 5000;
    while (!sm.enabled && Date.now() < until) await new Promise((resolve) => setImmediate(resolve));
    return { jid: full.toString(), sm: sm.enabled };
  },

  async reconnect({ port }) {
    xmpp.options.service = `xmpp://${jid(me).domain}:${port}`;
    const outcome = new Promise((resolve) => {
      xmpp.streamManagement.once("resumed", () => resolve(true));
      xmpp.once("online", () => resolve(false));
    });
    await xmpp.reconnect.reconnect();
    return { resumed: await outcome };
  },

  async presence({ to, type, status, priority }) {
    const children = [];
    if (status !== undefined) children.push(xml("status", {}, status));
    if (priority !== undefined) children.push(xml("priority", {}, String(priority)));
    await xmpp.send(xml("presence", { to, type }, children));
  },

  async roster() {
    const query = await xmpp.iqCaller.get(xml("query", { xmlns: ROSTER }));
    return query.getChildren("item").map(({ attrs }) => ({
      jid: attrs.jid,
      subscription: attrs.subscription ?? "none",
      ask: attrs.ask ?? "",
    }));
  },

  async message({ to, body, id, receipt, type = "chat" }) {
    const children = [xml("body", {}, body)];
    if (receipt) children.push(xml("request", { xmlns: RECEIPTS }));
    await xmpp.send(xml("message", { to, id, type }, children));
  },

  async carbons() {
    await xmpp.iqCaller.set(xml("enable", { xmlns: CARBONS }));
  },

  async ping({ to }) {
    await xmpp.iqCaller.get(xml("ping", { xmlns: PING }), to ?? me);
  },

  async disco({ to }) {
    const query = await xmpp.iqCaller.get(xml("query", { xmlns: DISCO }), to ?? jid(me).domain);
    return query.getChildren("feature").map((f) => f.attrs.var).sort();
  },

  async archive({ max, peer, after, before }) {
    const queryid = crypto.randomUUID();
    results.set(queryid, []);
    const field = (name, value, type) => xml("field", { var: name, type }, xml("value", {}, value));
    const set = xml("set", { xmlns: RSM }, xml("max", {}, String(max)));
    if (after !== undefined) set.append(xml("after", {}, after));
    if (before !== undefined) set.append(xml("before", {}, before));
    const form = xml("x", { xmlns: "jabber:x:data", type: "submit" }, field("FORM_TYPE", MAM, "hidden"));
    if (peer) form.append(field("with", peer));
    const iq = xml("iq", { type: "set" }, xml("query", { xmlns: MAM, queryid }, form, set));
    const fin = (await xmpp.iqCaller.request(iq)).getChild("fin", MAM);
    const page = results.get(queryid).map((result) => {
      const forwarded = result.getChild("forwarded", FORWARD);
      const { id = "", from = "", to = "" } = forwarded.getChild("message").attrs;
      const body = forwarded.getChild("message").getChildText("body") ?? "";
      const delayed = forwarded.getChild("delay", "urn:xmpp:delay") !== undefined;
      return { archive: result.attrs.id, id, from, to, body, delayed };
    });
    results.delete(queryid);
    const rsm = fin.getChild("set", RSM);
    return {
      page,
      complete: ["true", "1"].includes(fin.attrs.complete),
      first: rsm?.getChildText("first") ?? "",
      last: rsm?.getChildText("last") ?? "",
      count: Number(rsm?.getChildText("count") ?? -1),
    };
  },

  async block({ jid: address }) {
    await xmpp.iqCaller.set(xml("block", { xmlns: BLOCKING }, xml("item", { jid: address })));
  },

  async unblock({ jid: address }) {
    await xmpp.iqCaller.set(xml("unblock", { xmlns: BLOCKING }, xml("item", { jid: address })));
  },

  async blocked() {
    return items(await xmpp.iqCaller.get(xml("blocklist", { xmlns: BLOCKING })));
  },

  async disconnect() {
    await xmpp.stop();
  },

  ...extensions({
    xmpp: () => xmpp,
    me: () => me,
    collect: (id) => results.set(id, []).get(id),
    refuse: (stage, what) => new Refused(stage, what),
    condition,
    emit,
  }),
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, cmd, args } = JSON.parse(line);
  commands[cmd](args ?? {}).then(
    (ok) => emit({ id, ok: ok ?? null }),
    (error) => {
      const { stage, condition } = error instanceof Refused ? error : refusal(error);
      emit({ id, error: { stage, condition } });
    },
  );
}
process.exit(0);
