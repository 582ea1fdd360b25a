package store

// Every statement the store runs, in SQLite's dialect. Another dialect is another file like this one and another connection below.

// Writing.
const (
	qBegin      = `BEGIN IMMEDIATE`
	qCommit     = `COMMIT`
	qRollback   = `ROLLBACK`
	qSavepoint  = `SAVEPOINT unit`
	qRollbackTo = `ROLLBACK TO unit`
	qRelease    = `RELEASE unit`
	qTailInsert = `INSERT INTO tail (seq, data) VALUES (?, ?)`
	qTailDelete = `DELETE FROM tail WHERE seq <= ?`
	qTailAll    = `SELECT seq, data FROM tail ORDER BY seq`
	qArchiveTop = `SELECT coalesce((SELECT max(id) FROM archive WHERE account = ?1), 0) FROM account WHERE id = ?1`
	qArchivePut = `INSERT INTO archive (account, id, peer_hash, peer, stanza, thread) VALUES (?, ?, ?, ?, ?, ?)`
	// For moves out of the tail: a row that is there already is the same one.
	qArchiveMove = qArchivePut + ` ON CONFLICT DO NOTHING`
	qOfflinePut  = `INSERT INTO offline (account, id, stanza) VALUES (?, ?, ?)`
	qOfflineNote = `UPDATE account SET last_id = max(last_id, coalesce((SELECT max(id) FROM offline WHERE account = ?1 AND id <= ?2), 0)) WHERE id = ?1`
	qOfflineDel  = `DELETE FROM offline WHERE account = ?1 AND id <= ?2`

	qRosterPut = `INSERT INTO roster (account, contact, name, subscription, ask, approved, groups, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
		ON CONFLICT DO UPDATE SET name = ?3, subscription = ?4, ask = ?5, approved = ?6, groups = ?7, version = ?8`
	qRosterDel     = `DELETE FROM roster WHERE account = ?1 AND contact = ?2`
	qRosterVersion = `UPDATE account SET roster_version = max(roster_version, ?2) WHERE id = ?1`
	qRemovedPut    = `INSERT INTO roster_removed (account, contact, version) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET version = ?3`
	qRemovedDel    = `DELETE FROM roster_removed WHERE account = ?1 AND contact = ?2`
	// The version of the newest tombstone that has to go so that ?2 of them stay.
	qRemovedOver = `SELECT version FROM roster_removed WHERE account = ?1 ORDER BY version DESC LIMIT 1 OFFSET ?2`
	qRemovedTrim = `DELETE FROM roster_removed WHERE account = ?1 AND version <= ?2`
	qRosterFloor = `UPDATE account SET roster_floor = max(roster_floor, ?2) WHERE id = ?1`

	qRequestPut = `INSERT INTO request (account, sender, stanza, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET stanza = ?3, at = ?4`
	qRequestDel = `DELETE FROM request WHERE account = ?1 AND sender = ?2`
	qRequestCut = `DELETE FROM request WHERE account = ?1 AND sender IN (SELECT sender FROM request WHERE account = ?1 ORDER BY at DESC, sender LIMIT -1 OFFSET ?2)`
	qBlockPut   = `INSERT INTO blocked (account, jid) VALUES (?, ?) ON CONFLICT DO NOTHING`
	qBlockDel   = `DELETE FROM blocked WHERE account = ? AND jid = ?`
	qBlockClear = `DELETE FROM blocked WHERE account = ?`
	qKVPut      = `INSERT INTO kv (account, space, key, value) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET value = ?4`
	qKVDel      = `DELETE FROM kv WHERE account = ? AND space = ? AND key = ?`
	qSessionPut = `INSERT INTO session (account, resource, client, address, at, online) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT DO UPDATE SET client = ?3, address = ?4, at = ?5, online = ?6`
	qSessionCut = `DELETE FROM session WHERE account = ?1 AND resource IN (SELECT resource FROM session WHERE account = ?1 ORDER BY at DESC, resource LIMIT -1 OFFSET ?2)`

	qAccountPut     = `INSERT INTO account (jid, domain, created) VALUES (?, ?, ?)`
	qAccountID      = `SELECT id FROM account WHERE jid = ?`
	qAccountDisable = `UPDATE account SET disabled = ?2 WHERE id = ?1`
	qAccountDel     = `DELETE FROM account WHERE id = ?`
	// Contacts of account ?1, whose address is ?2, lose what they have of it. Who they are is read from its own side;
	// who has approved it without being asked is in the index roster_approved alone.
	qPeers       = `a.jid IN (SELECT contact FROM roster WHERE account = ?1 UNION SELECT sender FROM request WHERE account = ?1)`
	qPeersListed = `SELECT a.id FROM account a CROSS JOIN roster r ON r.account = a.id AND r.contact = ?2
		WHERE (r.subscription <> 'none' OR r.ask) AND ` + qPeers + ` UNION SELECT account FROM roster WHERE contact = ?2 AND approved`
	qPeersVersion = `UPDATE account SET roster_version = roster_version + 1 WHERE id IN (` + qPeersListed + `)`
	qPeersCut     = `UPDATE roster SET subscription = 'none', ask = 0, approved = 0, version = (SELECT roster_version FROM account WHERE id = roster.account)
		WHERE contact = ?2 AND account IN (` + qPeersListed + `)`
	qPeersRequests = `DELETE FROM request WHERE sender = ?2 AND account IN (SELECT a.id FROM account a WHERE ` + qPeers + `)`

	qKeysPut = `INSERT INTO credential (account, hash, iterations, salt, stored_key, server_key) VALUES (?, ?, ?, ?, ?, ?)`
	qKeysAll = `SELECT hash, iterations, salt, stored_key, server_key FROM credential WHERE account = ? ORDER BY hash`
	qKeysDel = `DELETE FROM credential WHERE account = ?`
	// Nothing but an import that isn't finished has an address with a colon before the at.
	qImportEnd   = `UPDATE account SET jid = ?3, domain = ?4, created = ?5, disabled = ?6 WHERE id = ?1 AND jid = ?2`
	qImportsNote = `INSERT INTO removal SELECT id FROM account WHERE jid >= 'import:' AND jid < 'import;'`
	qImportsDel  = `DELETE FROM account WHERE jid >= 'import:' AND jid < 'import;'`
	qRemovalPut  = `INSERT INTO removal (account) VALUES (?)`
	qRemovalDel  = `DELETE FROM removal WHERE account = ?`
	// Deletes at most ?3 entries of an account, those with the lowest ids up to ?2.
	qArchiveCut = `DELETE FROM archive WHERE account = ?1 AND id <= coalesce(
		(SELECT id FROM archive WHERE account = ?1 AND id <= ?2 ORDER BY id LIMIT 1 OFFSET ?3 - 1), ?2)`
	qArchiveNote = `UPDATE account SET last_id = max(last_id, coalesce((SELECT max(id) FROM archive WHERE account = ?1), 0)) WHERE id = ?1`
	qSecretPut   = `INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`
	qProbe       = `UPDATE account SET last_id = last_id WHERE id = 0`

	qClientPut = `INSERT INTO client (account, id, software, device, address, mechanism, sasl2, password, tag, resource, first_seen, last_seen)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11) ON CONFLICT DO UPDATE SET
		software = coalesce(nullif(?3, ''), software), device = coalesce(nullif(?4, ''), device), address = coalesce(nullif(?5, ''), address),
		sasl2 = CASE WHEN ?6 = '' THEN sasl2 ELSE ?7 END, mechanism = coalesce(nullif(?6, ''), mechanism), password = max(password, ?8),
		tag = coalesce(nullif(?9, ''), tag), resource = coalesce(nullif(?10, ''), resource), last_seen = max(last_seen, ?11)`
	qClientHas = `SELECT 1 FROM client WHERE account = ?1 AND id = ?2`
	// A new password: only ?2 knows it.
	qClientsKnow = `UPDATE client SET password = id = ?2 WHERE account = ?1`
	qClientCount = `SELECT count(*) FROM client WHERE account = ?`
	// Deletes all but ?4 of an account's clients besides ?2: at ?3, those with a token and the last seen stay.
	qClientCut = `DELETE FROM client WHERE account = ?1 AND id IN (SELECT id FROM client c WHERE account = ?1 AND id <> ?2 ORDER BY
		EXISTS (SELECT 1 FROM token t WHERE t.account = c.account AND t.client = c.id AND max(t.expires, t.new_expires) > ?3) DESC,
		last_seen DESC, id LIMIT -1 OFFSET ?4)`
	qClientCursor = `UPDATE client SET cursor = max(cursor, ?3) WHERE account = ?1 AND id = ?2`
	qClientDel    = `DELETE FROM client WHERE account = ?1 AND id = ?2`
	qTokenPut     = `INSERT INTO token (account, client, new_mechanism, new_value, new_issued, new_expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT DO UPDATE SET new_mechanism = ?3, new_value = ?4, new_issued = ?5, new_expires = ?6`
	// The new token takes the place of the current one.
	qTokenTurn = `UPDATE token SET mechanism = new_mechanism, value = new_value, issued = new_issued, expires = new_expires, counter = ?3,
		new_mechanism = '', new_value = x'', new_issued = 0, new_expires = 0 WHERE account = ?1 AND client = ?2`
	// The current token is used; a new one that would expire before it goes (XEP-0484 3.5).
	qTokenCount = `UPDATE token SET counter = max(counter, ?3), new_value = CASE WHEN new_expires < expires THEN x'' ELSE new_value END
		WHERE account = ?1 AND client = ?2`
	qTokenDel  = `DELETE FROM token WHERE account = ?1 AND client = ?2`
	qTokensDel = `DELETE FROM token WHERE account = ?`

	qSavedPut = `INSERT INTO resumable (account, key, resource, client, ends, window, handled, acked, sent, up_to, state, bytes)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO UPDATE SET
		resource = ?3, client = ?4, ends = ?5, window = ?6, handled = ?7, acked = ?8, sent = ?9, up_to = ?10, state = ?11, bytes = ?12`
	qSavedCount = `SELECT count(*) FROM resumable WHERE account = ?`
	qSavedDel   = `DELETE FROM resumable WHERE account = ?1 AND key = ?2`
	qSavedEndOf = `UPDATE resumable SET ends = 1 WHERE account = ?1 AND client = ?2`
	qSavedStart = `UPDATE resumable SET ends = ?1 + window WHERE ends = 0`
	qQueueDel   = `DELETE FROM resumable_queue WHERE account = ?1 AND key = ?2`
	qQueuePut   = `INSERT INTO resumable_queue (account, key, n, entry, tag, stanza) VALUES (?, ?, ?, ?, ?, ?)`
	qQueueLast  = `SELECT max(n) FROM resumable_queue WHERE account = ?1 AND key = ?2`
	qSavedBytes = `SELECT bytes FROM resumable WHERE account = ?1 AND key = ?2`
	qSavedGrow  = `UPDATE resumable SET bytes = ?3 WHERE account = ?1 AND key = ?2`

	qRoomCount     = `SELECT count(*) FROM room`
	qRoomCountOf   = `SELECT count(*) FROM room WHERE creator = ?1`
	qRoomCreate    = `INSERT INTO room (account, domain, jid, creator, persistent, public, name, options, subject) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	qRoomPut       = `UPDATE room SET persistent = ?2, public = ?3, name = ?4, options = ?5, subject = ?6 WHERE account = ?1`
	qRoomMemberPut = `INSERT INTO room_member (account, jid, affiliation, nick, reason) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET affiliation = ?3, nick = ?4, reason = ?5`
	qRoomMemberDel  = `DELETE FROM room_member WHERE account = ?1 AND jid = ?2`
	qArchiveReplace = `UPDATE archive SET stanza = ?3, thread = NULL WHERE account = ?1 AND id = ?2`
	qOutboxHas      = `SELECT count(*) FROM outbox WHERE id = ?`
	qOutboxPut      = `INSERT INTO outbox (id, at, stanza) VALUES (?, ?, ?)`
	qOutboxDel      = `DELETE FROM outbox WHERE id = ?`
	qOutboxAll      = `SELECT id, at, stanza FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2`

	qStart  = `UPDATE starts SET n = n + 1`
	qStarts = `SELECT n FROM starts`

	qUpkeepGet     = `SELECT account, id FROM upkeep WHERE name = ?`
	qUpkeepPut     = `UPDATE upkeep SET account = ?2, id = ?3 WHERE name = ?1`
	qUpkeepDel     = `DELETE FROM upkeep WHERE name = ?`
	qArchiveWalk   = `SELECT account, id, stanza FROM archive WHERE (account, id) > (?1, ?2) ORDER BY account, id LIMIT ?3`
	qArchiveThread = `UPDATE archive SET thread = ?3 WHERE account = ?1 AND id = ?2`
)

// Reading.
const (
	qKeys = `SELECT account, iterations, salt, stored_key, server_key FROM credential
		WHERE account = (SELECT id FROM account WHERE jid = ?1 AND NOT disabled) AND hash = ?2`
	qHashes      = `SELECT hash, count(*) FROM credential GROUP BY hash`
	qKeyed       = `SELECT count(DISTINCT account) FROM credential`
	qIterations  = `SELECT iterations, count(*) FROM credential GROUP BY iterations ORDER BY iterations`
	qAccountHead = `SELECT id, roster_version, roster_floor, max(last_id,
		coalesce((SELECT max(id) FROM archive WHERE account = a.id), 0),
		coalesce((SELECT max(id) FROM offline WHERE account = a.id), 0)),
		(SELECT count(*) FROM offline WHERE account = a.id),
		(SELECT value FROM kv WHERE account = a.id AND space = 'mam' AND key = 'prefs')
		FROM account a WHERE jid = ?1 AND domain <> ''`
	qSnapshot    = `BEGIN`
	qRosterAll   = `SELECT contact, name, subscription, ask, approved, groups, version FROM roster WHERE account = ?`
	qRemovedAll  = `SELECT contact, version FROM roster_removed WHERE account = ? ORDER BY version`
	qRequestAll  = `SELECT sender, stanza, at FROM request WHERE account = ? ORDER BY at, sender`
	qBlockedAll  = `SELECT jid FROM blocked WHERE account = ?`
	qKVGet       = `SELECT value FROM kv WHERE account = ? AND space = ? AND key = ?`
	qKVList      = `SELECT key, value FROM kv WHERE account = ? AND space = ? ORDER BY key`
	qSessionAll  = `SELECT resource, client, address, at, online FROM session WHERE account = ? ORDER BY at DESC, resource`
	qOfflinePage = `SELECT id, stanza FROM offline WHERE account = ? AND id > ? ORDER BY id LIMIT ?`
	qEnabledID   = `SELECT id FROM account WHERE jid = ?1 AND NOT disabled`
	qTokenGet    = `SELECT mechanism, value, issued, expires, counter, new_mechanism, new_value, new_issued, new_expires FROM token
		WHERE account = ?1 AND client = ?2`
	qClients = `SELECT c.id, software, device, address, c.mechanism, sasl2, password, tag, resource, first_seen, last_seen, cursor,
		max(coalesce(t.expires, 0), coalesce(t.new_expires, 0)) FROM client c LEFT JOIN token t ON t.account = c.account AND t.client = c.id
		WHERE c.account = ?1`
	qClientAll = qClients + ` ORDER BY last_seen DESC, c.id`
	qClientGet = qClients + ` AND c.id = ?2`
	qSavedAll  = `SELECT key, resource, client, ends, window, handled, acked, sent, up_to, state FROM resumable WHERE account = ? ORDER BY key`
	qQueueAll  = `SELECT entry, tag, stanza FROM resumable_queue WHERE account = ?1 AND key = ?2 ORDER BY n`
	// Accounts above ?1 that have saved sessions.
	qSavedAccounts = `SELECT id, jid, created, disabled FROM account a WHERE id > ?1 AND EXISTS (SELECT 1 FROM resumable WHERE account = a.id)
		ORDER BY id LIMIT ?2`
	qRoomGet = `SELECT account, max(last_id, coalesce((SELECT max(id) FROM archive WHERE account = r.account), 0)), persistent, public, name, options, subject
		FROM room r JOIN account a ON a.id = r.account WHERE r.jid = ?1`
	qRoomMembers      = `SELECT jid, affiliation, nick, reason FROM room_member WHERE account = ? ORDER BY jid`
	qRoomColumns      = `SELECT jid, creator, persistent, public, name FROM room WHERE domain = ?1 AND jid > ?2`
	qRoomsAll         = qRoomColumns + ` ORDER BY jid LIMIT ?3`
	qRoomsEverywhere  = `SELECT jid, creator, persistent, public, name FROM room WHERE jid > ?2 ORDER BY jid LIMIT ?3`
	qRoomsPublic      = qRoomColumns + ` AND public ORDER BY jid LIMIT ?3`
	qRoomsCount       = `SELECT count(*) FROM room WHERE domain = ?1`
	qRoomsCountAll    = qRoomsCount
	qRoomsCountPublic = qRoomsCount + ` AND public`
	qRoomsTemporary   = `SELECT jid FROM room WHERE NOT persistent LIMIT 100`

	qSecretGet   = `SELECT value FROM secret WHERE name = ?`
	qRemovalAll  = `SELECT account FROM removal ORDER BY account`
	qAccountsAll = `SELECT id, jid, created, disabled FROM account WHERE jid > ?1 AND domain <> '' ORDER BY jid LIMIT ?3`
	qAccountsOf  = `SELECT id, jid, created, disabled FROM account WHERE domain = ?2 AND jid > ?1 ORDER BY jid LIMIT ?3`
	qAccountGet  = `SELECT id, jid, created, disabled FROM account WHERE jid = ?1`
	qDomains     = `SELECT domain, count(*) FROM account WHERE domain <> '' GROUP BY domain`
	// Accounts above ?1 with archive entries up to ?2, at most ?3.
	qPurgeable = `SELECT id FROM account a WHERE id > ?1 AND (SELECT min(id) FROM archive WHERE account = a.id) <= ?2 ORDER BY id LIMIT ?3`

	qPageUp   = `SELECT id, stanza FROM archive WHERE account = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4`
	qPageDown = `SELECT id, stanza FROM archive WHERE account = ?1 AND id > ?2 AND id <= ?3 ORDER BY id DESC LIMIT ?4`
	qNth      = `SELECT id FROM archive WHERE account = ?1 AND id > ?2 AND id <= ?3 ORDER BY id DESC LIMIT ?4 OFFSET ?5`
	qWith     = `SELECT id, stanza FROM archive INDEXED BY archive_peer WHERE account = ?1 AND id > ?2 AND id <= ?3 AND peer_hash = ?5`
	// A bare JID matches itself and every full JID of it: those sort between "bare/" and "bare0", the character after '/'.
	qBare         = ` AND (peer = ?6 OR (peer > ?6 || '/' AND peer < ?6 || '0'))`
	qFull         = ` AND peer = ?6`
	qUp           = ` ORDER BY id LIMIT ?4`
	qDown         = ` ORDER BY id DESC LIMIT ?4`
	qPageUpBare   = qWith + qBare + qUp
	qPageDownBare = qWith + qBare + qDown
	qPageUpFull   = qWith + qFull + qUp
	qPageDownFull = qWith + qFull + qDown
	// A thread is few entries: the correspondent is looked at in each.
	qThread         = `SELECT id, stanza FROM archive INDEXED BY archive_thread WHERE account = ?1 AND thread = ?7 AND id > ?2 AND id <= ?3`
	qThreadUp       = qThread + qUp
	qThreadDown     = qThread + qDown
	qThreadUpBare   = qThread + qBare + qUp
	qThreadDownBare = qThread + qBare + qDown
	qThreadUpFull   = qThread + qFull + qUp
	qThreadDownFull = qThread + qFull + qDown

	// A database in memory: what it holds, and its beginning.
	qTables      = `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('migration', 'starts') ORDER BY rowid DESC`
	qStartsReset = `UPDATE starts SET n = 0`

	qEntry        = `SELECT id, stanza, peer, thread FROM archive WHERE account = ?1 AND id = ?2`
	qCount        = `SELECT count(*) FROM archive INDEXED BY archive_peer WHERE account = ?1 AND id > ?2 AND id <= ?3`
	qCountWith    = qCount + ` AND peer_hash = ?4`
	qCountFull    = qCountWith + ` AND peer = ?5`
	qCountThread  = `SELECT count(*) FROM archive INDEXED BY archive_thread WHERE account = ?1 AND thread = ?4 AND id > ?2 AND id <= ?3`
	qCountThreadB = qCountThread + qBare
	qCountThreadF = qCountThread + qFull
	qHas          = `SELECT 1 FROM archive WHERE account = ?1 AND id = ?2`
	qBounds       = `SELECT (SELECT min(id) FROM archive WHERE account = ?1 AND id <= ?2), (SELECT max(id) FROM archive WHERE account = ?1 AND id <= ?2)`
)
