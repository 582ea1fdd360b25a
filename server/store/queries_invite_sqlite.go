package store

// Invitations.
const (
	qInvitePut     = `INSERT INTO invite (hash, domain, inviter, name, account, ends) VALUES (?, ?, ?, ?, ?, ?)`
	qInviteGet     = `SELECT domain, inviter, name, account, ends FROM invite WHERE hash = ?1 AND ends > ?2`
	qInviteName    = `SELECT 1 FROM invite WHERE domain = ?1 AND name = ?2 AND ends > ?3`
	qInviteTake    = `DELETE FROM invite WHERE hash = ?`
	qInvitesEnded  = `DELETE FROM invite WHERE ends <= ?`
	qInviteCount   = `SELECT count(*) FROM invite`
	qInviteCountOf = `SELECT count(*) FROM invite WHERE inviter = ?`
)
