package delivery

import (
	"bytes"
	"context"
	"fmt"

	"hydrant/buffer"
	"hydrant/record"
)

// keyBytes is a key of an epoch, and how many bytes of Data its rows have.
type keyBytes struct {
	key   []byte
	bytes int64
}

// keyed gives the rows of a job by key, ascending; yield ends it with an error.
func (j *job) keyed(yield func(key []byte, size int64, row buffer.RunRow) error) (err error) {
	if j.kind == routeRows {
		for key, row := range j.run.Sorted() {
			if err := yield(key, j.sizes.of(key), row); err != nil {
				return err
			}
		}
		return nil
	}
	if len(j.keys) == 0 {
		return nil
	}
	r, err := j.store.OpenEpoch(j.consumer, j.epoch.number, j.head.Source.Run)
	if err != nil {
		return fmt.Errorf("open the runs of epoch %d: %w", j.epoch.number, err)
	}
	defer r.Close()
	for _, k := range j.keys {
		for row, err := range r.Rows(k.key) {
			if err != nil {
				return fmt.Errorf("read the runs of epoch %d: %w", j.epoch.number, err)
			}
			if sabotageAskAgain && k.key[0] == roleData && !j.askAgain(&row) {
				continue
			}
			if err := yield(k.key, k.bytes, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// byKey writes rows that have been routed.
func (c *cutting) byKey(ctx context.Context) error {
	j := c.j
	var key []byte
	role, rows := byte(0), 0
	errorType, route := "", ""
	err := j.keyed(func(k []byte, size int64, row buffer.RunRow) (err error) {
		if rows++; rows%checkRows == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if key == nil || !bytes.Equal(key, k) {
			key = append(key[:0], k...)
			if role, errorType, route, err = parseKey(k); err != nil {
				return err
			}
			c.prefix, c.number = route, c.number+1
			c.enter(route, endOf(k))
			c.share = evenly(size, j.limit)
		}
		j.reach = row.Seq
		if role == roleError {
			return c.errors.addLine(errorType, route, row)
		}
		c.counted = !row.Counts
		message, poisoned := "", false
		if j.poison != nil {
			message, poisoned = j.poison[row.Seq]
		}
		return c.put(row.Row, c.number, poisoned, message)
	})
	if err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	return c.errors.end()
}

// evenly is how many bytes each of the objects of a key has, which are of like size and up to a quarter larger than
// limit, rather than full ones with a small one behind them. The last row of each comes on top. 0: no bound.
func evenly(size, limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	most := limit + limit/4
	n := max((size+most-1)/most, 1)
	return max((size+n-1)/n, 1)
}

// addLine writes a row of a run that is a line of the error output.
func (e *errorOutput) addLine(errorType, route string, row buffer.RunRow) error {
	if e.errorType != errorType || e.route != route || e.full() {
		if err := e.begin(errorType, route, row.Row); err != nil {
			return err
		}
		e.from, e.until = 0, 0 // rows that are not routed find their own
	}
	return e.write(row.Row, row.Data, row.Counts)
}

// write adds a line to the open object.
func (e *errorOutput) write(row record.Row, line []byte, counts bool) error {
	if _, err := e.w.Write(line); err != nil {
		return &packError{fmt.Errorf("write an error record: %w", err)}
	}
	e.bytes += int64(len(line))
	e.object.add(row, counts)
	if counts {
		e.total++
	}
	return nil
}
