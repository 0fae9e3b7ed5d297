package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func decodeRedshift(t *testing.T, text string, s *Stream) (*RedshiftDestination, []Fault) {
	t.Helper()
	root, faults := parseYAML([]byte(text), func(name string) (string, bool) { return "pa$$", name == "PW" })
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	d := &decoder{places: map[string]pos{}}
	var r RedshiftDestination
	d.structure(reflect.ValueOf(&r).Elem(), root, "streams[0].destination.redshift")
	c := &Config{}
	c.AWS.Region = "eu-west-1"
	d.redshift(c, s, &r, "streams[0]")
	return &r, d.faults
}

func TestRedshiftDestination(t *testing.T) {
	parquet := &Stream{Format: Format{Parquet: &Parquet{Timestamps: "micros"}}}
	r, faults := decodeRedshift(t, `
dsn: "postgres://user:${PW}@host:5439/dev"
table: public.clicks
iam_role: arn:aws:iam::123456789012:role/copy
staging: { s3: { bucket: stage, prefix: "a/" } }
`, parquet)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if u, err := r.DSN.URL.Value(); err != nil || u != "postgres://user:pa$$@host:5439/dev" || r.Table != "public.clicks" || r.LedgerTable != "hydrant_ledger" ||
		r.RetryDuration != RetryTime(time.Hour) || r.Staging.S3.Bucket != "stage" || r.Staging.S3.Region != "eu-west-1" {
		t.Errorf("%+v", r)
	}
	if r.DSN.encode() != any("configured") {
		t.Errorf("the address is kept as %v", r.DSN.encode())
	}
	r, faults = decodeRedshift(t, `
dsn: { host: h, user: u, iam: { cluster: C } }
table: t
columns: [a, b]
copy_options: "json 'auto'"
merge_on: [a]
credentials: { access_key_id: k, secret_access_key: s }
staging: { s3: { bucket: stage } }
ledger_table: ops.ledger
retry_duration: forever
`, &Stream{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if p := r.DSN.Parts; p.Host != "h" || p.Port != 5439 || p.Database != "dev" || *p.IAM.Cluster != "C" || p.SSLMode != "verify-full" || r.RetryDuration != Forever || len(r.MergeOn) != 1 {
		t.Errorf("%+v %+v", r, p)
	}
	for _, c := range []struct{ text, want string }{
		{"table: t", "redshift.dsn: is required"},
		{`dsn: "mysql://u:hunter2@h/d"`, "redshift.dsn: is not the URL"},
		{`dsn: [hunter2]`, "redshift.dsn: is neither"},
		{"dsn: { host: h }", "redshift.dsn.user: is missing"},
		{"dsn: { host: h, user: u, password: hunter2, iam: { cluster: c } }", "redshift.dsn.password: is given although iam"},
		{"dsn: { host: h, user: u, iam: { workgroup: w } }", "redshift.dsn.user"},
		{"dsn: { host: h, iam: { cluster: c }, sslmode: disable }", "redshift.dsn.sslmode: would send"},
		{"dsn: { host: h, user: u, port: 65536 }", "redshift.dsn.port"},
		{"dsn: { host: h, user: u, sslmode: prefer }", "redshift.dsn.sslmode"},
		{"iam_role: r\ncredentials: { access_key_id: k, secret_access_key: s }", "redshift.iam_role"},
		{"table: t\nmerge_on: [a]", "redshift.columns: is missing"},
		{"staging: { s3: { bucket: stage, prefix: \"!{timestamp:yyyy}/\" } }", "redshift.staging.s3.prefix"},
		{"staging: { s3: { bucket: stage, prefix: \"a b/\" } }", "redshift.staging.s3.prefix"},
		{"staging: {}", "redshift.staging.s3: is required"},
	} {
		_, faults := decodeRedshift(t, c.text, &Stream{})
		var all []string
		for _, f := range faults {
			all = append(all, f.Path+": "+f.Problem+" "+f.Value)
		}
		if text := strings.Join(all, "\n"); !strings.Contains(text, c.want) || strings.Contains(text, "hunter2") {
			t.Errorf("%s:\n%s\nwant %s", c.text, text, c.want)
		}
	}
}

// The specification has no secrets; who works it off takes them, and the address, from the present file.
func TestRedshiftSecrets(t *testing.T) {
	stream := func(redshift string) *Stream {
		return &decode(t, "streams: [ { name: s, destination: { redshift: { table: t, "+redshift+" } } } ]").Config.Streams[0]
	}
	const role, staging = "iam_role: default", "staging: { s3: { bucket: stage, credentials: { access_key_id: k, secret_access_key: hunter3 } } }"
	byURL := stream(`dsn: "postgres://u:hunter2@old/d", ` + role + ", " + staging)
	moved := stream(`dsn: "postgres://u:hunter4@new/d", ` + role + ", " + staging)
	parts := stream("dsn: { host: h, user: u, password: hunter2 }, credentials: { access_key_id: k, secret_access_key: hunter5 }, " + staging)
	iam := stream("dsn: { host: h, user: u, iam: { cluster: c } }, iam_role: default, staging: { s3: { bucket: stage } }")
	for _, c := range []struct {
		name         string
		old, present *Stream
		url, host    string
		fails        bool
	}{
		{"the same", byURL, byURL, "postgres://u:hunter2@old/d", "", false},
		{"it has moved", byURL, moved, "postgres://u:hunter4@new/d", "", false},
		{"now in parts", byURL, parts, "", "h", false},
		{"gone", byURL, nil, "", "", true},
		{"gone, in parts", parts, nil, "", "", true},
		{"gone, without a secret", iam, nil, "", "h", false},
	} {
		spec := string(c.old.Spec())
		if strings.Contains(spec, "hunter") {
			t.Errorf("%s: the specification holds a secret: %s", c.name, spec)
		}
		s, err := ParseSpec("s", []byte(spec))
		if err != nil {
			t.Fatal(err)
		}
		if again := string(s.Spec()); again != spec {
			t.Errorf("%s: read back as\n%s\nwant\n%s", c.name, again, spec)
		}
		err = s.TakeSecrets(c.present)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		r := s.Destination.Redshift
		url, host := "", ""
		if r.DSN.Parts != nil {
			host = r.DSN.Parts.Host
		} else if url, err = r.DSN.URL.Value(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if url != c.url || host != c.host {
			t.Errorf("%s: url %q, host %q", c.name, url, host)
		}
		if c.present != nil {
			if v, err := r.Staging.S3.Credentials.SecretAccessKey.Value(); err != nil || v != "hunter3" {
				t.Errorf("%s: the key of the bucket is %q, %v", c.name, v, err)
			}
		}
	}
}
