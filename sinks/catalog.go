package sinks

import "context"

// Catalog is what a sink can tell of the objects that it has, for whoever looks for records in them. Safe for concurrent
// use; it changes nothing.
type Catalog interface {
	// List calls found for every object whose key begins with prefix, in no order, until it returns false.
	List(ctx context.Context, prefix string, found func(key string, size int64) bool) error
	// Describe returns the Meta that an object was put with, as far as the store has kept it: empty where it has kept none,
	// or the object is somebody else's. An error that is fs.ErrNotExist says that the object is not there, any other that
	// the store does not say.
	Describe(ctx context.Context, key string) (meta map[string]string, err error)
}
