package redshift

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"hydrant/sinks/redshift/redshifttest"
)

func TestQuoting(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a": "'a'", "a'b": "'a''b'", `a\`: `'a\\'`, `\'; DROP TABLE x; --`: `'\\''; DROP TABLE x; --'`, "é\n": "'é\n'"} {
		if got, err := Literal(in); err != nil || got != want {
			t.Errorf("Literal(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"\x00", "a\x00b", "\xff"} {
		if got, err := Literal(in); err == nil {
			t.Errorf("Literal(%q) = %s", in, got)
		}
	}
	for in, want := range map[string]string{"a": `"a"`, "User": `"user"`, `a"b`: `"a""b"`, "a b": `"a b"`, strings.Repeat("n", 127): `"` + strings.Repeat("n", 127) + `"`} {
		if got, err := Identifier(in); err != nil || got != want {
			t.Errorf("Identifier(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "a\x00", "a\n", "\xff", strings.Repeat("n", 128)} {
		if got, err := Identifier(in); err == nil {
			t.Errorf("Identifier(%q) = %s", in, got)
		}
	}
	for in, want := range map[string]string{"t": `"t"`, "S.T": `"s"."t"`, `"a.b".c`: `"a.b"."c"`, `"a""b"`: `"a""b"`} {
		if n, err := ParseName(in); err != nil || n.SQL() != want {
			t.Errorf("ParseName(%q) = %s, %v, want %s", in, n, err, want)
		}
	}
	for _, in := range []string{"", ".", "a.", ".a", "a.b.c", "a b", "a;b", `"a`, `"a"b`, `""`, "1a"} {
		if n, err := ParseName(in); err == nil {
			t.Errorf("ParseName(%q) = %s", in, n)
		}
	}
}

// What is quoted comes back from the warehouse as it went.
func TestQuotedComesBack(t *testing.T) {
	w := newWorld(t, memoryStore(t), redshifttest.Options{})
	e, err := w.open(nil).open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	for _, in := range []string{"", "'", `\`, `\'`, `'\`, `\\''`, "--", "/*", "a\nb\r\t", "é\U0001F600", `\n`, "$$", `"`} {
		q, err := Literal(in)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := e.conn.QueryRow(t.Context(), "SELECT "+q).Scan(&got); err != nil || got != in {
			t.Errorf("%q came back as %q, %v", in, got, err)
		}
		if in == "" {
			continue
		}
		name, err := Identifier(in)
		if err != nil {
			continue
		}
		rows, err := e.conn.Query(t.Context(), "SELECT 1 AS "+name)
		if err != nil {
			t.Errorf("the name %q: %v", in, err)
			continue
		}
		if got := rows.FieldDescriptions(); len(got) != 1 || got[0].Name != in {
			t.Errorf("the name %q came back as %v", in, got)
		}
		rows.Close()
	}
}

// FuzzLiteral reads literals back by Redshift's rule.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"", "'", `\`, `\'`, "a\x00", "\xff", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := Literal(s)
		if (err == nil) != (utf8.ValidString(s) && !strings.Contains(s, "\x00")) {
			t.Fatalf("Literal(%q): %v", s, err)
		}
		if err != nil {
			return
		}
		var b strings.Builder
		i := 1
		for ; i < len(q); i++ {
			if q[i] == '\\' {
				i++
			} else if q[i] == '\'' {
				if i+1 >= len(q) || q[i+1] != '\'' {
					break
				}
				i++
			}
			b.WriteByte(q[i])
		}
		if i != len(q)-1 || b.String() != s {
			t.Fatalf("Literal(%q) = %s, which means %q and ends at %d", s, q, b.String(), i)
		}
	})
}

func FuzzOptions(f *testing.F) {
	for _, s := range []string{"json 'auto' gzip", "CSV QUOTE AS '\"' NULL AS '\\N'", "MAXERROR 10 TIMEFORMAT 'epochsecs'", "format as parquet serializetojson", "delimiter '\\t'", "'", "a;b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseOptions(s)
		if err != nil {
			return
		}
		for _, w := range append(u.words, u.json) {
			if again, err := tokens(w); err != nil || len(again) > 3 {
				t.Fatalf("%q becomes %q: %v", s, w, err)
			}
			if strings.ContainsAny(strings.ReplaceAll(w, "''", ""), ";") && !strings.Contains(w, "'") {
				t.Fatalf("%q becomes %q", s, w)
			}
		}
	})
}

func FuzzDSN(f *testing.F) {
	for _, s := range []string{"postgres://u:p@h:5439/d", "jdbc:redshift://h:5439/d;user=u;password=p", "redshift://h?sslmode=disable", ":", "jdbc:redshift:iam://h/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseDSN(s)
		if err == nil && (a.Host == "" || a.Port == 0 || a.Database == "") {
			t.Fatalf("%q becomes %+v", s, a)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"entries":[{"url":"s3://stage/a","mandatory":true,"meta":{"content_length":1}}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := parseManifest("stage", b)
		if err == nil && len(parts) == 0 {
			t.Fatal("no parts and no error")
		}
	})
}

func TestDSN(t *testing.T) {
	full := Address{Host: "c.x.eu-west-1.redshift.amazonaws.com", Port: 5439, Database: "dev", User: "u", Password: "p w"}
	for in, want := range map[string]Address{
		"postgres://u:p%20w@c.x.eu-west-1.redshift.amazonaws.com:5439/dev":                  full,
		"redshift://u:p%20w@c.x.eu-west-1.redshift.amazonaws.com":                           full,
		"jdbc:redshift://c.x.eu-west-1.redshift.amazonaws.com:5439/dev?user=u&password=p+w": full,
		"jdbc:postgresql://c.x.eu-west-1.redshift.amazonaws.com/dev;UID=u;PWD=p+w;ssl=true": full,
		"jdbc:redshift:iam://h:1/d":                     {Host: "h", Port: 1, Database: "d"},
		"postgresql://u@h/d?sslmode=require":            {Host: "h", Port: 5439, Database: "d", User: "u", TLS: Require},
		"redshift://h?sslmode=verify-ca&sslrootcert=/f": {Host: "h", Port: 5439, Database: "dev", TLS: VerifyCA, CAFile: "/f"},
	} {
		if got, err := ParseDSN(in); err != nil || got != want {
			t.Errorf("ParseDSN(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"mysql://secret@h": "scheme", "postgres://u:secret@": "host", "postgres://u:secret@h:0/d": "port", "postgres://u:secret@h:65536/d": "port",
		"postgres://u:secret@h/d?sslmode=prefer": "sslmode", "postgres://u:secret@h/d?options=x": "options", "postgres://u:se%cret@h/d": "URL",
		"jdbc:redshift://h/d?ssl=false": "sslmode=disable", "postgres://h/d?sslmode=require&sslmode=disable": "2 times",
	} {
		if _, err := ParseDSN(in); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseDSN(%q): %v, want it to name %s", in, err, want)
		}
	}
	if !full.IsAWS() || (&Address{Host: "localhost"}).IsAWS() {
		t.Error("whose an endpoint is was not seen")
	}
}

func TestStatement(t *testing.T) {
	build := func(o Options) (string, error) {
		if o.Columns == nil {
			o.Columns = []string{"id", "User"}
		}
		if o.IAMRole == "" && o.Keys == nil {
			o.IAMRole = role
		}
		s, err := newStatement(&o)
		if err != nil {
			return "", err
		}
		return s.copy(`"t"`, "s3://b/m", Keys{"AK", "se+/=", "to"})
	}
	keys := func(context.Context) (Keys, error) { return Keys{}, nil }
	const head = `COPY "t" ("id", "user") FROM 's3://b/m' IAM_ROLE '` + role + `' `
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, head + "FORMAT AS JSON 'auto ignorecase' TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' MANIFEST COMPUPDATE OFF STATUPDATE OFF"},
		{Options{Compression: "gzip", CopyOptions: "json 'auto' gzip timeformat 'epochmillisecs'", Region: "eu-west-1"}, head + "FORMAT AS JSON 'auto' GZIP REGION AS 'eu-west-1' DATEFORMAT AS 'auto' TIMEFORMAT AS 'epochmillisecs' MANIFEST COMPUPDATE OFF STATUPDATE OFF"},
		{Options{Format: Parquet, Nested: true, Region: "eu-west-1", Compression: "snappy"}, head + "FORMAT AS PARQUET SERIALIZETOJSON  MANIFEST STATUPDATE OFF"},
		{Options{Compression: "zstd", CopyOptions: `CSV NULL AS '\N' QUOTE '''' compupdate preset statupdate on`}, head + `FORMAT AS CSV ZSTD TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' NULL AS '\\N' QUOTE AS '''' COMPUPDATE PRESET STATUPDATE ON MANIFEST`},
		{Options{CopyOptions: `delimiter '\t' ACCEPTINVCHARS TRUNCATECOLUMNS`}, head + `TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' DELIMITER AS '\\t' ACCEPTINVCHARS TRUNCATECOLUMNS MANIFEST COMPUPDATE OFF STATUPDATE OFF`},
		{Options{CopyOptions: "CSV MAXERROR 100000 IGNOREHEADER 0"}, head + "FORMAT AS CSV TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' IGNOREHEADER 0 MANIFEST COMPUPDATE OFF STATUPDATE OFF"},
		{Options{IAMRole: "default"}, strings.Replace(head, "IAM_ROLE '"+role+"'", "IAM_ROLE DEFAULT", 1) + "FORMAT AS JSON 'auto ignorecase' TIMEFORMAT AS 'auto' DATEFORMAT AS 'auto' MANIFEST COMPUPDATE OFF STATUPDATE OFF"},
		{Options{Keys: keys, Format: Parquet}, strings.Replace(head, "IAM_ROLE '"+role+"'", "ACCESS_KEY_ID 'AK' SECRET_ACCESS_KEY 'se+/=' SESSION_TOKEN 'to'", 1) + "FORMAT AS PARQUET MANIFEST STATUPDATE OFF"},
	} {
		got, err := build(c.o)
		if err != nil || strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(c.want), " ") {
			t.Errorf("%+v:\n%s %v, want\n%s", c.o, got, err, c.want)
		}
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Columns: []string{}, Format: Parquet}, "columns"}, {Options{Columns: []string{}, MergeOn: []string{"a"}}, "columns"}, {Options{Columns: []string{"a", "A"}}, `"A" is named twice`},
		{Options{IAMRole: "role"}, "iam_role"}, {Options{IAMRole: role, Keys: keys}, "keep one"}, {Options{Region: "x'"}, "region"},
		{Options{Compression: "snappy"}, "snappy"}, {Options{Compression: "hadoop_snappy"}, "hadoop_snappy"},
		{Options{CopyOptions: "gzip"}, "GZIP"}, {Options{Compression: "gzip", CopyOptions: "zstd"}, "ZSTD"}, {Options{CopyOptions: "gzip zstd"}, "two compressions"},
		{Options{CopyOptions: "json 'auto' csv"}, "two formats"}, {Options{Format: Parquet, CopyOptions: "json 'auto'"}, "Parquet"},
		{Options{CopyOptions: "FORMAT AVRO"}, "AVRO"}, {Options{CopyOptions: "FORMAT xml"}, "xml"}, {Options{CopyOptions: "iam_role 'x'"}, "IAM_ROLE"},
		{Options{CopyOptions: "IGNOREALLERRORS"}, "IGNOREALLERRORS"}, {Options{CopyOptions: "NOLOAD"}, "NOLOAD"}, {Options{CopyOptions: "MANIFEST"}, "MANIFEST"},
		{Options{CopyOptions: "MAXERROR 100001"}, "100001"}, {Options{CopyOptions: "CSV IGNOREHEADER 1"}, "no header"}, {Options{CopyOptions: "MAXERROR"}, "number"}, {Options{CopyOptions: "TIMEFORMAT"}, "TIMEFORMAT"},
		{Options{CopyOptions: "MAXERROR 1 MAXERROR 2"}, "twice"}, {Options{CopyOptions: "'x'"}, "belongs to no option"}, {Options{CopyOptions: "x; y"}, "';'"},
		{Options{CopyOptions: "NULL 'x"}, "does not end"}, {Options{CopyOptions: "NONSENSE"}, "NONSENSE"},
	} {
		if got, err := build(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %s, %v, want an error with %s", c.o, got, err, c.want)
		}
	}
	// Every option in each format, as the table of COPY has it.
	arguments := map[argument]string{none: "", texts: " 'x'", number: " 0", word: " ON", preset: " OFF"}
	heads := map[Format]string{JSON: "JSON 'auto' ", CSV: "CSV ", Text: "", Parquet: "PARQUET "}
	for name, o := range copyOptions {
		for f, head := range heads {
			if name == "DELIMITER" && f == JSON {
				continue
			}
			_, err := build(Options{Format: f, CopyOptions: head + name + arguments[o.argument]})
			if (err == nil) != (o.formats&f != 0) {
				t.Errorf("%s with %s: %v", name, f, err)
			}
		}
	}
}

func TestConnectsByAddressAlone(t *testing.T) {
	t.Setenv("PGPASSWORD", "other")
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGHOST", "elsewhere")
	t.Setenv("PGOPTIONS", "-c x=1")
	t.Setenv("PGAPPNAME", "other")
	a := Address{Host: "h", Port: 1, Database: "d"}
	c, err := a.config(Login{"IAM:u", "p"}, "hydrant")
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "h" || c.Port != 1 || c.Database != "d" || c.User != "IAM:u" || c.Password != "p" || len(c.Fallbacks) != 0 ||
		c.TLSConfig == nil || c.TLSConfig.ServerName != "h" || c.TLSConfig.InsecureSkipVerify || c.DefaultQueryExecMode != pgx.QueryExecModeExec {
		t.Errorf("the configuration is %+v", c.Config)
	}
	if len(c.RuntimeParams) != 2 || c.RuntimeParams["client_encoding"] != "UTF8" || c.RuntimeParams["application_name"] != "hydrant" {
		t.Errorf("parameters of the start are %v", c.RuntimeParams)
	}
}
