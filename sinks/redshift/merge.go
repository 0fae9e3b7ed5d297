package redshift

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hydrant/sinks"
)

// mergeColumns are the quoted columns of MergeOn and MergeOrder, all of which are loaded.
func (s *Sink) mergeColumns() (on, order []string, err error) {
	if on, err = identifiers(s.o.MergeOn); err != nil {
		return nil, nil, fmt.Errorf("merge_on: %w", err)
	}
	if order, err = identifiers(s.o.MergeOrder); err != nil {
		return nil, nil, fmt.Errorf("merge_order: %w", err)
	}
	if len(on) == 0 && len(order) > 0 {
		return nil, nil, errors.New("merge_order is given without merge_on")
	}
	for _, c := range slices.Concat(on, order) {
		if !slices.Contains(s.copy.columns, c) {
			return nil, nil, fmt.Errorf("merge_on: the column %s is not loaded; there are %s", c, strings.Join(s.copy.columns, ", "))
		}
	}
	for _, c := range order {
		if slices.Contains(on, c) {
			return nil, nil, fmt.Errorf("merge_order: the column %s is one of merge_on", c)
		}
	}
	return on, order, nil
}

// merge is what loads through staging tables. They are of the session and dropped before the transaction ends; ON COMMIT
// DROP is not known to Redshift, and TRUNCATE would commit.
type merge struct {
	s              *Sink
	stage, deduped string // quoted
}

func (s *Sink) newMerge(manifest string) *merge {
	sum := sha256.Sum256([]byte(manifest))
	name := "hydrant_stage_" + hex.EncodeToString(sum[:6])
	return &merge{s, `"` + name + `"`, `"` + name + `_one"`}
}

// create makes the staging table, with the types of the target's columns and none of its constraints: a column that is not
// loaded may be NOT NULL.
func (m *merge) create() string {
	return "CREATE TEMP TABLE " + m.stage + " AS SELECT " + strings.Join(m.s.copy.columns, ", ") + " FROM " + m.s.table + " WHERE 1 = 0"
}

// equal are the conditions on which rows of the target and of another table are the same, which MERGE takes between columns
// alone.
func (m *merge) equal(other string) string {
	var on []string
	for _, c := range m.s.merge {
		on = append(on, m.s.table+"."+c+" = "+other+"."+c)
	}
	return strings.Join(on, " AND ")
}

// nulls counts rows whose key no row can equal: each merge would insert them again.
func (m *merge) nulls() string {
	var is []string
	for _, c := range m.s.merge {
		is = append(is, c+" IS NULL")
	}
	return "SELECT COUNT(*) FROM " + m.stage + " WHERE " + strings.Join(is, " OR ")
}

// stale removes rows that are older than the target's. NULL is the lowest value, as it is among the rows of one load.
func (m *merge) stale() string {
	var alternatives []string
	equal := ""
	for _, c := range m.s.order {
		theirs, ours := m.s.table+"."+c, m.stage+"."+c
		alternatives = append(alternatives, "("+equal+"("+theirs+" > "+ours+" OR "+theirs+" IS NOT NULL AND "+ours+" IS NULL))")
		equal += "(" + theirs + " = " + ours + " OR " + theirs + " IS NULL AND " + ours + " IS NULL) AND "
	}
	return "DELETE FROM " + m.stage + " USING " + m.s.table + " WHERE " + m.equal(m.stage) + " AND (" + strings.Join(alternatives, " OR ") + ")"
}

// one leaves one row of each key, the newest where there is an order: MERGE does not take two.
func (m *merge) one() string {
	columns := strings.Join(m.s.copy.columns, ", ")
	window := "PARTITION BY " + strings.Join(m.s.merge, ", ")
	if len(m.s.order) > 0 {
		window += " ORDER BY " + strings.Join(m.s.order, " DESC NULLS LAST, ") + " DESC NULLS LAST"
	}
	return "CREATE TEMP TABLE " + m.deduped + " AS SELECT " + columns + " FROM (SELECT " + columns + ", ROW_NUMBER() OVER (" + window +
		") AS hydrant_row FROM " + m.stage + ") AS numbered WHERE hydrant_row = 1"
}

// into is the MERGE: both clauses, no condition in either, no alias of the target, no table name in SET.
func (m *merge) into() string {
	var set, values []string
	for _, c := range m.s.copy.columns {
		values = append(values, m.deduped+"."+c)
		if !slices.Contains(m.s.merge, c) {
			set = append(set, c+" = "+m.deduped+"."+c)
		}
	}
	if len(set) == 0 { // keys alone: the row stays what it is
		set = []string{m.s.merge[0] + " = " + m.deduped + "." + m.s.merge[0]}
	}
	return "MERGE INTO " + m.s.table + " USING " + m.deduped + " ON " + m.equal(m.deduped) +
		" WHEN MATCHED THEN UPDATE SET " + strings.Join(set, ", ") +
		" WHEN NOT MATCHED THEN INSERT (" + strings.Join(m.s.copy.columns, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// merge takes the staging table's rows into the target.
func (l *loading) merge(ctx context.Context, m *merge) (bad map[string]bool, err error) {
	nulls, err := l.number(ctx, m.nulls())
	if err != nil {
		return nil, l.fail("look for rows without a key", err)
	}
	if nulls > 0 {
		err := fmt.Errorf("merge into %s: %d rows have NULL in a column of merge_on (%s), and would be inserted again each time", l.s.table, nulls, strings.Join(l.s.merge, ", "))
		return map[string]bool{}, &sinks.Error{Class: sinks.RefusedObject, Code: "Redshift.DataLoadFailed", Message: err.Error(), Err: err}
	}
	steps := []struct{ what, sql string }{
		{"choose one row of each key", m.one()},
		{"merge into " + l.s.table, m.into()},
		{"drop the staging tables", "DROP TABLE " + m.deduped},
		{"drop the staging tables", "DROP TABLE " + m.stage},
	}
	if len(l.s.order) > 0 {
		steps = slices.Insert(steps, 0, struct{ what, sql string }{"leave out rows older than the table's", m.stale()})
	}
	for _, step := range steps {
		if _, err := l.exec(ctx, step.sql); err != nil {
			if judge(err, true).data {
				bad = map[string]bool{}
			}
			return bad, l.fail(step.what, err)
		}
	}
	return nil, nil
}
