-- Who has approved a contact without being asked (RFC 6121 3.4): the contact's own roster doesn't tell.
CREATE INDEX roster_approved ON roster (contact) WHERE approved;
