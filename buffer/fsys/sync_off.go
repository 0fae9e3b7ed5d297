//go:build benchnosync

package fsys

// syncing is off: this build loses what it has acknowledged when the power goes. It exists to be measured
// against one that does not, and no configuration leads here.
const syncing = false
