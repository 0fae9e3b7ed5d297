package delivery

// stand tells the buffer whether the stream can be read. Rows of one that cannot be opened stay in the ring of the
// journal, which other streams need too.
func (l *loop) stand() {
	c, ok := l.s.consumer.(interface{ Stand(on bool) })
	if !ok {
		return
	}
	l.s.mu.Lock()
	on := l.ver.pipe == nil
	l.s.mu.Unlock()
	c.Stand(on)
}
