package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const guarded = `
api:
  listen: ["0.0.0.0:4573", "unix:/run/hydrant.sock?mode=0660"]
  tls: { cert_file: c.pem, key_file: k.pem, client_ca_file: ca.pem }
  auth:
    access_keys:
      - { id: AKIDEXAMPLE, secret: "${SECRET}", streams: ["clicks*"], allow: [put, read], expires: "2030-01-31T12:00:00+01:00" }
      - { id: OTHER, secret_file: FILE, session_token: session }
    tokens:
      - { token_file: FILE, streams: ["*"], allow: [put] }
      - { name: ci, token: t }
admin:
  listen: ":4574"
  auth: { tokens: [ { token: t, allow: [read, admin] }, { token: u } ] }
`

func TestAccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Decode("f", []byte(strings.ReplaceAll(guarded, "FILE", file)+smallest), env("SECRET", "hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	api := f.Config.API
	if want := (TLS{CertFile: "c.pem", KeyFile: "k.pem", ClientCAFile: "ca.pem"}); api.TLS != want {
		t.Errorf("tls %+v", api.TLS)
	}
	want := &Auth{
		AccessKeys: []AccessKey{
			{ID: "AKIDEXAMPLE", Secret: NewSecret("hunter2"), Streams: []string{"clicks*"}, Allow: []string{"put", "read"}, Expires: "2030-01-31T12:00:00+01:00"},
			{ID: "OTHER", Secret: SecretFile(file), SessionToken: NewSecret("session"), Streams: []string{"*"}, Allow: []string{"put"}},
		},
		Tokens: []Token{
			{Name: "token_file " + file, Token: SecretFile(file), Streams: []string{"*"}, Allow: []string{"put"}},
			{Name: "ci", Token: NewSecret("t"), Streams: []string{"*"}, Allow: []string{"put"}},
		},
	}
	if !reflect.DeepEqual(api.Auth, want) {
		t.Errorf("\n got %+v\nwant %+v", api.Auth, want)
	}
	if got := Expiry(api.Auth.AccessKeys[0].Expires); !got.Equal(time.Date(2030, 1, 31, 11, 0, 0, 0, time.UTC)) || !Expiry("").IsZero() {
		t.Errorf("expires %s", got)
	}
	wantAdmin := &AdminAuth{Tokens: []AdminToken{{Name: "token e3b98a4d", Token: NewSecret("t"), Allow: []string{"read", "admin"}}, {Name: "token 0bfe935e", Token: NewSecret("u"), Allow: []string{"read"}}}}
	if !reflect.DeepEqual(f.Config.Admin.Auth, wantAdmin) {
		t.Errorf("\n got %+v\nwant %+v", f.Config.Admin.Auth, wantAdmin)
	}
	none := decode(t, "api: { listen: ':1', auth: none }\nadmin: { listen: ':2', auth: none }\n"+smallest).Config
	if !reflect.DeepEqual(none.API.Auth, &Auth{Word: "none"}) || !reflect.DeepEqual(none.Admin.Auth, &AdminAuth{Word: "none"}) {
		t.Errorf("none: %+v, %+v", none.API.Auth, none.Admin.Auth)
	}
}

// A listener cannot be opened to other machines by accident, in whichever way it is written.
func TestExposure(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:4573", ":4573", "[::]:4573", "192.0.2.1:4573", "example.com:4573", "localhost.example.com:1", "ip6-localhost:1", "[fe80::1%eth0]:1", "[::ffff:192.0.2.1]:1"} {
		for _, listener := range []string{"api", "admin"} {
			for _, form := range []string{"ADDR", "['127.0.0.1:9', ADDR]", "[ADDR, '127.0.0.1:9']", "['unix:/s', ADDR]"} {
				text := listener + ": { listen: " + strings.Replace(form, "ADDR", "'"+addr+"'", 1)
				got := faults(t, text+" }\n"+smallest, noEnv)
				if !strings.Contains(got, "can be reached from other machines, and "+listener+".auth is not given") || strings.Contains(got, "\n") {
					t.Errorf("%s: %s", text, got)
				}
				decode(t, text+", auth: none }\n"+smallest)
				decode(t, text+", auth: { tokens: [ { token: t } ] } }\n"+smallest)
			}
		}
	}
	for _, addr := range []string{"127.0.0.1:1", "127.1.2.3:1", "'[::1]:1'", "localhost:1", "'[::ffff:127.0.0.1]:1'", "unix:/run/s", "unix:s?mode=0666"} {
		decode(t, "api: { listen: "+addr+" }\nadmin: { listen: '127.0.0.1:2' }\n"+smallest)
	}
	// A file that takes the place of another is looked at again with the listeners that stay.
	running := decode(t, "api: { listen: ':1', auth: { tokens: [ { token: t } ] } }\n"+smallest)
	next := decode(t, "api: { listen: '127.0.0.1:1' }\n"+smallest)
	next.KeepUntilRestart(running.Config)
	if got := next.CheckExposure(); len(got) != 1 || got[0].Path != "api.listen" {
		t.Errorf("%v", got)
	}
}

func TestAccessFaults(t *testing.T) {
	with := func(top string) string { return top + "\n" + smallest }
	key := func(s string) string { return with("api: { auth: { access_keys: [ { " + s + " } ] } }") }
	for _, c := range []struct{ name, text, want string }{
		{"auth, a word", with("api: { auth: nobody }"), "1:14: api.auth: is not none (write none, { access_keys: ACCESS_KEYS } or { tokens: TOKENS })"},
		{"auth, an empty mapping", with("api: { auth: {} }"), "1:8: api.auth: says nothing (give access_keys or tokens, or write none)"},
		{"auth, an unknown key", with("api: { auth: { keys: [] } }"), "1:8: api.auth: says nothing (give access_keys or tokens, or write none)\n1:16: api.auth.keys: is not a known key (known here: access_keys or tokens)"},
		{"admin with access keys", with("admin: { auth: { access_keys: [], tokens: [ { token: t } ] } }"), "1:18: admin.auth.access_keys: is not a known key (known here: tokens)"},
		{"no id", key("secret: s"), "1:31: api.auth.access_keys[0].id: is required (1 to 128 letters, digits, _ or -)"},
		{"an id with a slash", key("id: a/b, secret: s"), "1:37: api.auth.access_keys[0].id: cannot be taken: \"a/b\" (wanted: 1 to 128 letters, digits, _ or -)"},
		{"no secret", key("id: A"), "1:31: api.auth.access_keys[0].secret: is required (give it, from the environment as ${NAME}, or as secret_file)"},
		{"an empty secret", key("id: A, secret: ''"), "1:48: api.auth.access_keys[0].secret: is required (give it, from the environment as ${NAME}, or as secret_file)"},
		{"a file that is not there", key("id: A, secret_file: /nowhere/s"), "1:53: api.auth.access_keys[0].secret_file: read secret: open /nowhere/s: no such file or directory: \"/nowhere/s\" (the file must exist and be readable)"},
		{"id twice", with("api: { auth: { access_keys: [ { id: A, secret: s }, { id: A, secret: t } ] } }"), "1:59: api.auth.access_keys[1].id: is the id of access_keys[0] already: \"A\" (ids are unique)"},
		{"a glob", key("id: A, secret: s, streams: [a/b]"), "1:61: api.auth.access_keys[0].streams[0]: cannot fit a stream's name: \"a/b\" (1 to 128 letters, digits, _, ., -, * or ?)"},
		{"an action", key("id: A, secret: s, allow: [write]"), "1:59: api.auth.access_keys[0].allow[0]: is not put, read or admin: \"write\""},
		{"an action twice", key("id: A, secret: s, allow: [put, put]"), "1:64: api.auth.access_keys[0].allow[1]: is given twice: \"put\""},
		{"put on the admin listener", with("admin: { auth: { tokens: [ { token: t, allow: [put] } ] } }"), "1:48: admin.auth.tokens[0].allow[0]: is not read or admin: \"put\""},
		{"expires", key("id: A, secret: s, expires: tomorrow"), "1:60: api.auth.access_keys[0].expires: is not a moment of RFC 3339: \"tomorrow\" (write it like 2030-01-31T12:00:00Z)"},
		{"no streams", key("id: A, secret: s, streams: []"), "1:51: api.auth.access_keys[0].streams: is empty (name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing)"},
		{"nothing for streams", key("id: A, secret: s, streams: ~"), "1:51: api.auth.access_keys[0].streams: is empty (name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing)"},
		{"no action", key("id: A, secret: s, allow: []"), "1:51: api.auth.access_keys[0].allow: is empty (name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing)"},
		{"a token without action", with("admin: { auth: { tokens: [ { token: t, allow: [] } ] } }"), "1:40: admin.auth.tokens[0].allow: is empty (name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing)"},
		{"a token without streams", with("api: { auth: { tokens: [ { token: t, streams: [] } ] } }"), "1:38: api.auth.tokens[0].streams: is empty (name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing)"},
		{"expires at the zero moment", key("id: A, secret: s, expires: '0001-01-01T00:00:00Z'"), "1:60: api.auth.access_keys[0].expires: is not a moment of RFC 3339: \"0001-01-01T00:00:00Z\" (write it like 2030-01-31T12:00:00Z)"},
		{"no token", with("api: { auth: { tokens: [ { name: n } ] } }"), "1:26: api.auth.tokens[0].token: is required (give it, from the environment as ${NAME}, or as token_file)"},
		{"half a certificate", with("api: { tls: { cert_file: c } }"), "1:8: api.tls: has only one of cert_file and key_file (give both or neither)"},
		{"two certificates", with("api: { tls: { auto: true, cert_file: c, key_file: k } }"), "1:21: api.tls.auto: is true and cert_file is given (keep one)"},
		{"clients' certificates alone", with("api: { tls: { client_ca_file: c } }"), "1:31: api.tls.client_ca_file: needs a certificate of the server's own: \"c\" (give cert_file and key_file, or auto: true)"},
		{"listen without a port", with("api: { listen: localhost }"), "1:16: api.listen: is not an address: \"localhost\" (write HOST:PORT, like 127.0.0.1:4573, or unix:/PATH)"},
		{"listen on a port too high", with("api: { listen: 'localhost:65536' }"), "1:16: api.listen: has no port from 0 to 65535: \"localhost:65536\" (write HOST:PORT, like 127.0.0.1:4573, or unix:/PATH)"},
		{"a socket without a path", with("api: { listen: 'unix:' }"), "1:16: api.listen: has a path of 0 bytes: \"unix:\" (from 1 to 90)"},
		{"a socket nobody can use", with("api: { listen: 'unix:/s?mode=0060' }"), "1:16: api.listen: has no mode that a socket can have: \"unix:/s?mode=0060\" (write ?mode=0660, say; the owner needs 6)"},
		{"one socket twice", with("api: { listen: ['unix:/s', 'unix:/s?mode=0660'] }"), "1:28: api.listen[1]: is the address of api.listen[0] too: \"unix:/s?mode=0660\" (each listener has its own)"},
	} {
		if got := faults(t, c.text, noEnv); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	for n, ok := range map[int]bool{maxSocketPath: true, maxSocketPath + 1: false} {
		_, err := Decode("f", []byte(with("api: { listen: 'unix:/"+strings.Repeat("s", n-1)+"' }")), noEnv)
		if (err == nil) != ok {
			t.Errorf("a path of %d bytes: %v", n, err)
		}
	}
	// Nothing that fails shows a secret.
	for _, text := range []string{"api: { auth: hunter2 }", "api: { auth: { tokens: hunter2 } }", "api: { auth: { tokens: [ hunter2 ] } }", "api: { auth: { tokens: [ { token: [hunter2] } ] } }"} {
		if got := faults(t, with(text), noEnv); strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", text, got)
		}
	}
}
