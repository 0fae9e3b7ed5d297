// Package redshift is the sink that takes objects into a table of Amazon Redshift, or of what speaks like it, by COPY.
//
// A finished object flows in: Put stores it in the bucket that COPY reads from, by the sink that is given for that, and
// Finish loads what is stored. In the table are exactly the rows of the parts that Finish has had no error for, each
// once, whatever crashes: one transaction holds both the COPY and a row for each part in a small table beside it, the
// ledger, so the ledger knows what is loaded and nothing else needs to. Its first statement is a LOCK of the ledger. A
// warehouse whose transactions see a snapshot takes that at the first statement that reads; so a SELECT before the lock
// would not see the rows of whoever had the lock before, and would load his parts again.
//
// After a lost answer, that of COMMIT too, the ledger is asked on a new connection, behind the same lock: a session that
// is dying still holds it. A crash loses nothing here: who comes next finishes the same parts and learns which of them
// are in the table.
//
// What cannot be loaded is found: parts that the warehouse names, or else halves, are tried without the others, so that
// one bad object holds back itself alone. A part that is given up is noted as skipped under the same lock, and can be
// loaded once later (Backfill).
package redshift

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hydrant/sinks"
)

const (
	// DefaultLedger is the name of the ledger table.
	DefaultLedger = "hydrant_ledger"
	// DefaultStatementTime is how long the warehouse may work on one statement; a wait for the lock counts.
	DefaultStatementTime = 30 * time.Minute
	// maxParts of one COPY: the text of the statement that notes them stays far below the 16 MB that Redshift takes.
	maxParts = 5000
	// maxID is the longest id of a part, the width of the ledger's column.
	maxID = 128
)

// Options of a Sink.
type Options struct {
	Address Address
	// Login gives the user and password of each connection; nil: those of Address.
	Login func(context.Context) (Login, error)

	Table       string   // table or schema.table, which exists; required
	Columns     []string // in the order of the objects' columns; none of text: all of the table
	Format      Format   // of the objects; 0 is what CopyOptions say, else JSON
	Compression string   // of the objects as a whole: none, gzip or zstd; of Parquet it is not looked at
	Nested      bool     // Parquet has columns inside columns, which go into SUPER
	CopyOptions string   // more of COPY
	// MergeOn are the columns that tell rows apart: a row replaces the one in the table that has the same values.
	MergeOn []string
	// MergeOrder are columns of which the highest values are the newest row's. Without them the last part wins, and among
	// rows of one part that have the same key any does.
	MergeOrder []string

	IAMRole string // ARN, chain of ARNs, or default: what COPY reads the bucket with; or
	// Keys are those that COPY reads the bucket with, asked for before each; nil: IAMRole.
	Keys   func(context.Context) (Keys, error)
	Region string // of the bucket; "" leaves it out

	Staging sinks.Sink // of the bucket; closed with the Sink; required
	Bucket  string     // required
	Prefix  string     // literal, of the objects; manifests of COPY go to manifests/ under it

	Ledger        string // table or schema.table; "" is DefaultLedger in the table's schema
	Stream        string // for the ledger's readers
	StatementTime time.Duration
	Log           *slog.Logger // nil: discarded
}

// Sink loads objects. Safe for concurrent use.
type Sink struct {
	o       Options
	copy    *statement
	table   string   // quoted
	ledger  string   // quoted
	merge   []string // quoted
	order   []string // quoted
	log     *slog.Logger
	patient time.Duration // how long rows of the load-error views are waited for
	grace   time.Duration // answerTime
}

var _ sinks.Finisher = (*Sink)(nil)

// New checks the options. It does no I/O.
func New(o Options) (*Sink, error) {
	s := &Sink{o: o, log: o.Log, patient: 5 * time.Second, grace: answerTime}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := o.Address.check(); err != nil {
		return nil, err
	}
	if o.Login == nil {
		if o.Address.User == "" {
			return nil, errors.New("user is missing: the user that loads, or iam")
		}
		login := Login{o.Address.User, o.Address.Password}
		s.o.Login = func(context.Context) (Login, error) { return login, nil }
	}
	if o.Staging == nil {
		return nil, errors.New("staging is missing: COPY reads what lies in S3")
	}
	if !bucketPattern.MatchString(o.Bucket) {
		return nil, fmt.Errorf("staging: %q is not the name of a bucket that COPY reads", o.Bucket)
	}
	if o.Prefix != "" && !objectPattern.MatchString(o.Prefix) {
		return nil, fmt.Errorf("staging: the prefix %q has other characters than A-Z a-z 0-9 = / _ . -, and COPY's manifest does not say how they are read", o.Prefix)
	}
	table, err := ParseName(o.Table)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	ledger, err := LedgerName(table, o.Ledger)
	if err != nil {
		return nil, fmt.Errorf("ledger_table: %w", err)
	}
	if s.table, s.ledger = table.sql(), ledger.sql(); s.table == s.ledger {
		return nil, fmt.Errorf("ledger_table: %s is the table itself", s.ledger)
	}
	if s.copy, err = newStatement(&o); err != nil {
		return nil, err
	}
	if s.merge, s.order, err = s.mergeColumns(); err != nil {
		return nil, err
	}
	if s.o.StatementTime == 0 {
		s.o.StatementTime = DefaultStatementTime
	}
	if s.o.StatementTime < time.Second {
		return nil, fmt.Errorf("a statement time of %s; at least 1s", o.StatementTime)
	}
	return s, nil
}

// LedgerName is the ledger's name: in the table's schema unless it has one of its own.
func LedgerName(table Name, ledger string) (Name, error) {
	if ledger == "" {
		ledger = DefaultLedger
	}
	n, err := ParseName(ledger)
	if err == nil && n.Schema == "" {
		n.Schema = table.Schema
	}
	return n, err
}

// LedgerDDL is the statement that makes the ledger. It declares no key: Redshift enforces none, and plans as if it did.
func LedgerDDL(ledger Name) string {
	return "CREATE TABLE IF NOT EXISTS " + ledger.sql() + ` (
  "id" VARCHAR(128) NOT NULL,
  "stream" VARCHAR(64) NOT NULL,
  "object_key" VARCHAR(1024) NOT NULL,
  "row_count" BIGINT NOT NULL,
  "state" VARCHAR(16) NOT NULL,
  "changed_at" TIMESTAMP NOT NULL DEFAULT SYSDATE
) DISTSTYLE ALL`
}

// Put stores the object where COPY finds it. It is not in the table before Finish.
func (s *Sink) Put(ctx context.Context, o sinks.Object) error { return s.o.Staging.Put(ctx, o) }

// Verify asks whether the object is stored where COPY finds it.
func (s *Sink) Verify(ctx context.Context, o sinks.Object) error { return s.o.Staging.Verify(ctx, o) }

// ValidateKey tells whether the bucket takes the key. Keys of objects that are to be loaded are nameable in a manifest by
// the prefix that New has checked; of others, such as those of the error output, the bucket asks no more.
func (s *Sink) ValidateKey(key string) error { return s.o.Staging.ValidateKey(key) }

// loadable tells whether a manifest of COPY can name the key.
func (s *Sink) loadable(key string) error {
	if !objectPattern.MatchString(key) {
		return fmt.Errorf("the key %q has other characters than A-Z a-z 0-9 = / _ . -, and COPY's manifest does not say how they are read", key)
	}
	if s.copy.format == Parquet {
		for _, end := range []string{".gz", ".snappy", ".bz2"} {
			if strings.HasSuffix(key, end) {
				return fmt.Errorf("the key %q ends in %s, and COPY would decompress the Parquet file as a whole", key, end)
			}
		}
	}
	return nil
}

// Close closes the staging sink. Loads under way end first with their callers.
func (s *Sink) Close() error { return s.o.Staging.Close() }

// manifestKey is where the manifest of these bytes lies: its name is its content's, so that it is written once and
// never changes.
func (s *Sink) manifestKey(manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return s.o.Prefix + "manifests/" + hex.EncodeToString(sum[:16]) + ".manifest"
}
