package store

// Push services of devices (XEP-0357).
const (
	qPushPut = `INSERT INTO push (account, service, node, options, client, resource, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
		ON CONFLICT DO UPDATE SET options = ?4, client = ?5, resource = ?6, at = ?7, failures = 0, retry = 0, condition = '', off = 0`
	// All but the ?2 named last go.
	qPushCut = `DELETE FROM push WHERE account = ?1 AND (service, node) IN
		(SELECT service, node FROM push WHERE account = ?1 ORDER BY at DESC, service, node LIMIT -1 OFFSET ?2)`
	qPushDel    = `DELETE FROM push WHERE account = ?1 AND service = ?2 AND node = ?3`
	qPushDelAll = `DELETE FROM push WHERE account = ?1 AND service = ?2`
	qPushDelOf  = `DELETE FROM push WHERE account = ?1 AND client = ?2 AND client <> ''`
	qPushState  = `UPDATE push SET failures = ?4, retry = ?5, condition = ?6, off = ?7 WHERE account = ?1 AND service = ?2 AND node = ?3`
	qPushHold   = `INSERT OR IGNORE INTO push_held (account, service, node, id) SELECT account, service, node, ?4 FROM push
		WHERE account = ?1 AND service = ?2 AND node = ?3`
	qPushHeldCut = `DELETE FROM push_held WHERE account = ?1 AND service = ?2 AND node = ?3 AND id <=
		(SELECT id FROM push_held WHERE account = ?1 AND service = ?2 AND node = ?3 ORDER BY id DESC LIMIT 1 OFFSET ?4)`
	qPushRelease = `DELETE FROM push_held WHERE account = ?1 AND service = ?2 AND node = ?3 AND id = ?4`

	qPushAll = `SELECT service, node, options, client, resource, at, failures, retry, condition, off FROM push WHERE account = ?
		ORDER BY at DESC, service, node`
	qPushHeldAll      = `SELECT service, node, id FROM push_held WHERE account = ? ORDER BY id`
	qPushHeldAccounts = `SELECT id, jid, created, disabled FROM account a WHERE id > ?1 AND EXISTS (SELECT 1 FROM push_held WHERE account = a.id)
		ORDER BY id LIMIT ?2`
)
