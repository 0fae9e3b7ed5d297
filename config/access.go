package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// addresses calls each for each address of a listener, with the path at which the file has it.
func (f *File) addresses(path string, listen Listen, each func(path, addr string)) {
	for i, addr := range listen {
		at := path
		if _, ok := f.places[index(path, i)]; ok {
			at = index(path, i)
		}
		each(at, addr)
	}
}

func (d *decoder) listeners(c *Config) {
	seen := map[string]string{}
	one := func(at, addr string) {
		key, problem, remedy := checkListen(addr)
		if problem != "" {
			d.faultAt(at, addr, problem, remedy)
			return
		}
		if first, dup := seen[key]; dup && !strings.HasSuffix(key, ":0") {
			if _, inFile := d.places[at]; !inFile { // the default of a listener that the file leaves out
				at, first = first, at
			}
			d.faultAt(at, addr, "is the address of "+first+" too", "each listener has its own")
		}
		seen[key] = at
	}
	f := File{places: d.places}
	f.addresses("api.listen", c.API.Listen, one)
	f.addresses("admin.listen", c.Admin.Listen, one)
}

// CheckExposure returns the faults of listeners that other machines can reach although nobody is asked for a key and
// the file does not say that this is meant. It is asked again where a file takes the place of another while
// listeners stay as they are.
func (f *File) CheckExposure() (faults []Fault) {
	check := func(path string, listen Listen, said bool) {
		if said {
			return
		}
		f.addresses(path+".listen", listen, func(at, addr string) {
			if _, problem, _ := checkListen(addr); problem == "" && !Local(addr) {
				faults = append(faults, f.Fault(at, addr, "can be reached from other machines, and "+path+".auth is not given",
					"give "+path+".auth, write `auth: none` to let everybody in, or listen on 127.0.0.1, [::1], localhost or a Unix socket"))
			}
		})
	}
	check("api", f.Config.API.Listen, f.Config.API.Auth != nil)
	check("admin", f.Config.Admin.Listen, f.Config.Admin.Auth != nil)
	return faults
}

// Local tells whether only this machine can reach an address of a listener, by its text alone. A name other than
// localhost may resolve to anything, so it is not local.
func Local(addr string) bool {
	if strings.HasPrefix(addr, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// maxSocketPath has room for a name beside the socket within the 104 bytes that macOS allows.
const maxSocketPath = 90

// checkListen tells what is wrong with an address, or a key that is the same for the same address.
func checkListen(addr string) (key, problem, remedy string) {
	const forms = "write HOST:PORT, like 127.0.0.1:4573, or unix:/PATH"
	if rest, ok := strings.CutPrefix(addr, "unix:"); ok {
		path, query, has := strings.Cut(rest, "?")
		if path == "" || len(path) > maxSocketPath {
			return "", fmt.Sprintf("has a path of %d bytes", len(path)), fmt.Sprintf("from 1 to %d", maxSocketPath)
		}
		digits, ok := strings.CutPrefix(query, "mode=")
		mode, err := strconv.ParseUint(digits, 8, 32)
		if has && (!ok || err != nil || mode > 0o777 || mode&0o600 != 0o600) {
			return "", "has no mode that a socket can have", "write ?mode=0660, say; the owner needs 6"
		}
		return "unix:" + path, "", ""
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "is not an address", forms
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", "has no port from 0 to 65535", forms
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	}
	return net.JoinHostPort(host, port), "", ""
}

// access checks keys, tokens and certificates, and fills in what they may do where the file does not say.
func (d *decoder) access(c *Config) {
	t := c.API.TLS
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		d.faultAt("api.tls", "", "has only one of cert_file and key_file", "give both or neither")
	case t.Auto && t.CertFile != "":
		d.faultAt("api.tls.auto", "", "is true and cert_file is given", "keep one")
	case t.ClientCAFile != "" && t.CertFile == "" && !t.Auto:
		d.faultAt("api.tls.client_ca_file", t.ClientCAFile, "needs a certificate of the server's own", "give cert_file and key_file, or auto: true")
	}
	if a := c.API.Auth; a != nil {
		ids := map[string]int{}
		for i := range a.AccessKeys {
			k, path := &a.AccessKeys[i], index("api.auth.access_keys", i)
			if first, dup := ids[k.ID]; dup && k.ID != "" {
				d.faultAt(child(path, "id"), k.ID, fmt.Sprintf("is the id of access_keys[%d] already", first), "ids are unique")
			} else {
				ids[k.ID] = i
			}
			d.wantSecret(k.Secret, child(path, "secret"))
			d.expiry(k.Expires, child(path, "expires"))
			k.Streams = d.globs(k.Streams, child(path, "streams"))
			k.Allow = d.actions(k.Allow, child(path, "allow"), "put", "read", "admin")
		}
		for i := range a.Tokens {
			t, path := &a.Tokens[i], index("api.auth.tokens", i)
			t.Name = tokenName(t.Name, t.Token)
			d.wantSecret(t.Token, child(path, "token"))
			d.expiry(t.Expires, child(path, "expires"))
			t.Streams = d.globs(t.Streams, child(path, "streams"))
			t.Allow = d.actions(t.Allow, child(path, "allow"), "put", "read", "admin")
		}
	}
	if a := c.Admin.Auth; a != nil {
		for i := range a.Tokens {
			t, path := &a.Tokens[i], index("admin.auth.tokens", i)
			t.Name = tokenName(t.Name, t.Token)
			d.wantSecret(t.Token, child(path, "token"))
			d.expiry(t.Expires, child(path, "expires"))
			t.Allow = d.actions(t.Allow, child(path, "allow"), "read", "admin")
		}
	}
}

// tokenName is what logs call a token, and by what its retries are known. It does not depend on the order of the
// list: without a name it is the file's, or else the beginning of the token's hash.
func tokenName(name string, token Secret) string {
	switch {
	case name != "":
		return name
	case token.file != "":
		return "token_file " + token.file
	}
	sum := sha256.Sum256([]byte(token.value))
	return "token " + hex.EncodeToString(sum[:4])
}

func (d *decoder) wantSecret(s Secret, path string) {
	if !s.IsSet() {
		d.faultAt(path, "", "is required", "give it, from the environment as ${NAME}, or as "+path[strings.LastIndexByte(path, '.')+1:]+"_file")
	}
}

// expiry checks what Expiry parses.
func (d *decoder) expiry(text, path string) {
	if at, err := time.Parse(time.RFC3339, text); text != "" && (err != nil || at.IsZero()) { // zero is never
		d.faultAt(path, text, "is not a moment of RFC 3339", "write it like 2030-01-31T12:00:00Z")
	}
}

// Expiry is when a key or token ends whose `expires` this is; zero is never.
func Expiry(text string) time.Time {
	at, _ := time.Parse(time.RFC3339, text) // checked, or empty
	return at
}

var globText = regexp.MustCompile(`^[a-zA-Z0-9_.*?-]{1,128}$`)

func (d *decoder) globs(globs []string, path string) []string {
	for i, g := range globs {
		if !globText.MatchString(g) {
			d.faultAt(index(path, i), g, "cannot fit a stream's name", "1 to 128 letters, digits, _, ., -, * or ?")
		}
	}
	if len(globs) == 0 {
		d.wantSome(path)
		return []string{"*"}
	}
	return globs
}

// wantSome refuses a list that is given and empty: who writes that means that nothing is allowed, and leaving the list
// out is what allows the most.
func (d *decoder) wantSome(path string) {
	if _, given := d.places[path]; given {
		d.faultAt(path, "", "is empty", "name what is allowed, leave the key out for its default, or take the whole entry out to allow nothing")
	}
}

// actions checks words and gives the first of those that are known where there are none.
func (d *decoder) actions(words []string, path string, known ...string) []string {
	for i, w := range words {
		if !slices.Contains(known, w) {
			d.faultAt(index(path, i), w, "is not "+oneOfList(known), "")
		} else if slices.Contains(words[:i], w) {
			d.faultAt(index(path, i), w, "is given twice", "")
		}
	}
	if len(words) == 0 {
		d.wantSome(path)
		return known[:1:1]
	}
	return words
}
