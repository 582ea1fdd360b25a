package store

// Personal events (XEP-0163).
const (
	qEventConfig  = `SELECT config FROM event_node WHERE account = ?1 AND node = ?2`
	qEventNodePut = `INSERT INTO event_node (account, node, config) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET config = ?3`
	qEventNodeDel = `DELETE FROM event_node WHERE account = ?1 AND node = ?2`
	qEventNodes   = `SELECT count(*) FROM event_node WHERE account = ?`
	qEventBytes   = `SELECT coalesce(sum(bytes), 0) FROM event_node WHERE account = ?`
	qEventPurge   = `DELETE FROM event_item WHERE account = ?1 AND node = ?2`
	qEventItemHas = `SELECT 1 FROM event_item WHERE account = ?1 AND node = ?2 AND id = ?3`
	qEventItemDel = `DELETE FROM event_item WHERE account = ?1 AND node = ?2 AND id = ?3`
	qEventItemTop = `(SELECT coalesce(max(seq), 0) + 1 FROM event_item WHERE account = ?1 AND node = ?2)`
	qEventItemPut = `INSERT INTO event_item (account, node, id, seq, at, payload) VALUES (?1, ?2, ?3, ` + qEventItemTop + `, ?4, ?5)
		ON CONFLICT DO UPDATE SET seq = ` + qEventItemTop + `, at = ?4, payload = ?5`
	// All but the newest ?3 go.
	qEventItemCut = `DELETE FROM event_item WHERE account = ?1 AND node = ?2 AND seq <=
		(SELECT seq FROM event_item WHERE account = ?1 AND node = ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3)`

	qEventNodeAll  = `SELECT node, config, bytes FROM event_node WHERE account = ? ORDER BY node`
	qEventNodeGet  = `SELECT node, config, bytes FROM event_node WHERE account = ?1 AND node = ?2`
	qEventItemGet  = `SELECT id, at, payload FROM event_item WHERE account = ?1 AND node = ?2 AND id = ?3`
	qEventItemPage = `SELECT id, at, payload FROM (SELECT id, at, payload, seq FROM event_item WHERE account = ?1 AND node = ?2
		ORDER BY seq DESC LIMIT ?3) ORDER BY seq`
	qEventLast = `SELECT n.config, i.id, i.at, i.payload FROM event_node n CROSS JOIN event_item i ON i.account = n.account AND i.node = n.node
		WHERE n.account = (SELECT id FROM account WHERE jid = ?1) AND n.node = ?2 ORDER BY i.seq DESC LIMIT 1`
)
