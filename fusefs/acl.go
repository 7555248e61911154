package fusefs

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)
