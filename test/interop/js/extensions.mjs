// What the driver for @xmpp/client says about rooms, personal events and files: the stanzas of an application on top of it.
import { createHash } from "node:crypto";
import https from "node:https";
import { jid, xml } from "@xmpp/client";

const MUC = "http://jabber.org/protocol/muc";
const DATA = "jabber:x:data";
const MODERATE = "urn:xmpp:message-moderate:1";
const RETRACT = "urn:xmpp:message-retract:1";
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";
const PING = "urn:xmpp:ping";
const PUBSUB = "http://jabber.org/protocol/pubsub";
const BOOKMARKS = "urn:xmpp:bookmarks:1";
const OLD = "storage:bookmarks";
const ITEMS = "http://jabber.org/protocol/disco#items";
const INFO = "http://jabber.org/protocol/disco#info";
const UPLOAD = "urn:xmpp:http:upload:0";
const PUSH = "urn:xmpp:push:0";
const CAPS = "http://jabber.org/protocol/caps";
const CLIENT = "https://carillon.im/test/interop";

const field = (name, values, type) =>
  xml("field", { var: name, type }, [values].flat().map((value) => xml("value", {}, String(value))));
const form = (type, ...fields) => xml("x", { xmlns: DATA, type: "submit" }, field("FORM_TYPE", type, "hidden"), ...fields);

// extensions returns commands for a client. xmpp() is the client once it is there, me() its bare address; collect(id)
// makes the list that the results of an archive query with that id go to; refuse(stage, condition) makes an error.
export function extensions({ xmpp, me, collect, refuse, condition, emit }) {
  const get = (child, to) => xmpp().iqCaller.get(child, to);
  const set = (child, to) => xmpp().iqCaller.set(child, to);

  // until calls take with each stanza until it returns something or throws.
  const until = (take) =>
    new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearTimeout(timer);
        xmpp().removeListener("stanza", look);
        settle(value);
      };
      const look = (stanza) => {
        try {
          const value = take(stanza);
          if (value !== undefined) end(resolve, value);
        } catch (error) {
          end(reject, error);
        }
      };
      const timer = setTimeout(() => end(reject, refuse("driver", "timeout")), 20_000);
      xmpp().on("stanza", look);
    });

  const admin = (room, attributes) => set(xml("query", { xmlns: MUC + "#admin" }, xml("item", attributes)), room);
  const publish = (node, id, payload, options = {}) =>
    set(
      xml(
        "pubsub",
        { xmlns: PUBSUB },
        xml("publish", { node }, xml("item", { id }, payload)),
        xml("publish-options", {}, form(PUBSUB + "#publish-options",
          ...Object.entries(options).map(([name, value]) => field("pubsub#" + name, value)))),
      ),
    );
  const items = async (to, node, id) => {
    const answer = await get(
      xml("pubsub", { xmlns: PUBSUB }, xml("items", { node }, id ? xml("item", { id }) : undefined)), to);
    return answer.getChild("items").getChildren("item");
  };
  const found = async (to) => (await get(xml("query", { xmlns: ITEMS }), to)).getChildren("item");

  let wanted = [];

  return {
    // XEP-0045 7.2: occupants' presence, the own last, then what was said, then the subject.
    async room_join({ room, nick, password }) {
      const occupants = [], history = [];
      const arrival = until((stanza) => {
        if (jid(stanza.attrs.from ?? "").bare().toString() !== room) return undefined;
        if (stanza.attrs.type === "error") throw refuse("presence", condition(stanza));
        if (stanza.name === "presence") occupants.push(jid(stanza.attrs.from).resource);
        else if (stanza.getChild("subject") && !stanza.getChild("body"))
          return { occupants: occupants.sort(), history, subject: stanza.getChildText("subject") };
        else if (stanza.getChild("body")) history.push(stanza.getChildText("body"));
        return undefined;
      });
      const secret = password === undefined ? undefined : xml("password", {}, password);
      await xmpp().send(xml("presence", { to: `${room}/${nick}` },
        xml("x", { xmlns: MUC }, xml("history", { maxstanzas: "10" }), secret)));
      return arrival;
    },

    async room_configure({ room, ...values }) {
      const query = await get(xml("query", { xmlns: MUC + "#owner" }), room);
      const names = query.getChild("x", DATA).getChildren("field").map(({ attrs }) => attrs.var);
      const fields = Object.entries(values).map(([name, value]) => ["muc#roomconfig_" + name, value]);
      for (const [name] of fields) if (!names.includes(name)) throw refuse("driver", `no field ${name}`);
      await set(xml("query", { xmlns: MUC + "#owner" },
        form(MUC + "#roomconfig", ...fields.map(([name, value]) => field(name, value)))), room);
    },

    room_role: async ({ room, nick, role }) => void (await admin(room, { nick, role })),

    room_affiliation: async ({ room, jid, affiliation }) => void (await admin(room, { jid, affiliation })),

    async room_list({ room, affiliation }) {
      const query = await get(xml("query", { xmlns: MUC + "#admin" }, xml("item", { affiliation })), room);
      return query.getChildren("item").map(({ attrs }) => attrs.jid).sort();
    },

    async room_subject({ room, subject }) {
      await xmpp().send(xml("message", { to: room, type: "groupchat" }, xml("subject", {}, subject)));
    },

    async room_invite({ room, jid }) {
      await xmpp().send(xml("message", { to: room },
        xml("x", { xmlns: MUC + "#user" }, xml("invite", { to: jid }, xml("reason", {}, "come")))));
    },

    room_ping: async ({ to }) => void (await get(xml("ping", { xmlns: PING }), to)),

    async room_archive({ room }) {
      const queryid = crypto.randomUUID(), results = collect(queryid);
      await set(xml("query", { xmlns: MAM, queryid }, xml("set", { xmlns: RSM }, xml("max", {}, "50"))), room);
      return results.map((result) => {
        const message = result.getChild("forwarded").getChild("message");
        return message.getChild("retracted", RETRACT) ? "retracted" : (message.getChildText("body") ?? "");
      });
    },

    // XEP-0425: what is moderated is named by the id that the room gave it.
    async room_moderate({ room, id, reason }) {
      await set(xml("moderate", { xmlns: MODERATE, id }, xml("retract", { xmlns: RETRACT }), xml("reason", {}, reason)), room);
    },

    async room_leave({ room, nick }) {
      await xmpp().send(xml("presence", { to: `${room}/${nick}`, type: "unavailable" }));
    },

    async room_destroy({ room }) {
      await set(xml("query", { xmlns: MUC + "#owner" }, xml("destroy", {}, xml("reason", {}, "over"))), room);
    },

    // Says by XEP-0115 that it wants to hear of nodes.
    async personal({ nodes }) {
      wanted = nodes;
      const features = [INFO, ...wanted.map((node) => node + "+notify")].sort();
      const ver = createHash("sha1").update("client/bot//interop<" + features.join("<") + "<").digest("base64");
      xmpp().iqCallee.get(INFO, "query", ({ element }) =>
        xml("query", { xmlns: INFO, node: element.attrs.node },
          xml("identity", { category: "client", type: "bot", name: "interop" }),
          ...features.map((feature) => xml("feature", { var: feature }))));
      xmpp().on("stanza", (stanza) => {
        const event = stanza.name === "message" && stanza.getChild("event", PUBSUB + "#event")?.getChild("items");
        for (const child of event ? event.getChildElements() : [])
          emit({ event: "personal", type: child.name === "retract" ? "retract" : "publish", from: stanza.attrs.from,
            status: event.attrs.node, id: child.attrs.id });
      });
      await xmpp().send(xml("presence", {}, xml("c", { xmlns: CAPS, hash: "sha-1", node: CLIENT, ver })));
    },

    async avatar_publish({ image, mime, access }) {
      const bytes = Buffer.from(image, "base64"), id = createHash("sha1").update(bytes).digest("hex");
      const options = { access_model: access };
      await publish("urn:xmpp:avatar:data", id, xml("data", { xmlns: "urn:xmpp:avatar:data" }, image), options);
      await publish("urn:xmpp:avatar:metadata", id, xml("metadata", { xmlns: "urn:xmpp:avatar:metadata" },
        xml("info", { id, type: mime, bytes: String(bytes.length) })), options);
      return id;
    },

    async avatar_read({ jid, id }) {
      const [item] = await items(jid, "urn:xmpp:avatar:data", id);
      return item.getChildText("data");
    },

    async vcard_photo({ jid }) {
      return (await get(xml("vCard", { xmlns: "vcard-temp" }), jid)).getChild("PHOTO")?.getChildText("BINVAL") ?? "";
    },

    async bookmark_add({ room, name, nick }) {
      await publish(BOOKMARKS, room, xml("conference", { xmlns: BOOKMARKS, name, autojoin: "true" },
        nick ? xml("nick", {}, nick) : undefined),
      { persist_items: "true", max_items: "max", send_last_published_item: "never", access_model: "whitelist" });
    },

    async bookmark_list({ jid }) {
      return (await items(jid, BOOKMARKS)).map((item) => `${item.attrs.id} ${item.getChild("conference").attrs.name}`);
    },

    async bookmark_old_list() {
      const query = await get(xml("query", { xmlns: "jabber:iq:private" }, xml("storage", { xmlns: OLD })));
      return query.getChild("storage").getChildren("conference").map(({ attrs }) => `${attrs.jid} ${attrs.name}`);
    },

    async bookmark_old_set({ rooms }) {
      await set(xml("query", { xmlns: "jabber:iq:private" }, xml("storage", { xmlns: OLD }, Object.entries(rooms).map(
        ([jid, name]) => xml("conference", { jid, name, autojoin: "true" }, xml("nick", {}, "nick"))))));
    },

    async event_retract({ node, id }) {
      await set(xml("pubsub", { xmlns: PUBSUB }, xml("retract", { node, notify: "true" }, xml("item", { id }))));
    },

    event_nodes: async ({ jid }) => (await found(jid)).map(({ attrs }) => attrs.node).filter(Boolean).sort(),

    // XEP-0357
    async push_enable({ service, node, secret }) {
      const options = secret ? form(PUBSUB + "#publish-options", field("secret", secret)) : undefined;
      await set(xml("enable", { xmlns: PUSH, jid: service, node }, options), me());
    },

    push_disable: async ({ service, node }) => void (await set(xml("disable", { xmlns: PUSH, jid: service, node }), me())),

    // Uploads a file and tells its address and what a GET finds there (XEP-0363).
    async upload({ name, type, content }) {
      let service;
      for (const { attrs } of await found(jid(me()).domain)) {
        const info = await get(xml("query", { xmlns: INFO }), attrs.jid).catch(() => undefined);
        if (info?.getChildren("feature").some((feature) => feature.attrs.var === UPLOAD)) service = attrs.jid;
      }
      const size = Buffer.byteLength(content);
      const wish = xml("request", { xmlns: UPLOAD, filename: name, size: String(size), "content-type": type });
      const answer = await xmpp().iqCaller.request(xml("iq", { type: "get", to: service }, wish));
      const slot = answer.getChild("slot", UPLOAD);
      const put = slot.getChild("put"), url = slot.getChild("get").attrs.url;
      const headers = { "Content-Type": type, "Content-Length": size };
      for (const header of put.getChildren("header")) headers[header.attrs.name] = header.text();
      const stored = await fetched(put.attrs.url, { method: "PUT", headers }, content);
      if (stored.status !== 201) throw refuse("driver", `PUT: ${stored.status}`);
      const part = await fetched(url, { headers: { Range: "bytes=1-3" } });
      return { url, type: part.type, status: part.status, part: part.text };
    },
  };
}

// fetched is one request; the look-up of names is the driver's.
const fetched = (url, options, body) =>
  new Promise((resolve, reject) => {
    const request = https.request(url, options, (response) => {
      let text = "";
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, type: response.headers["content-type"], text }));
    });
    request.on("error", reject);
    request.end(body);
  });
