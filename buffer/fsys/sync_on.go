//go:build !benchnosync

package fsys

// syncing is false in a build that measures what syncs cost, and in no other.
const syncing = true
