package s3

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

// TestChecksums sends small and large objects with every checksum, over plain HTTP and over TLS.
func TestChecksums(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		secure := faultproxy.NewTLS(t, s.endpoint)
		trusting := newTransport()
		trusting.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		var all []sinks.Object
		for _, endpoint := range []string{"", secure.URL} {
			for _, mode := range []string{Auto, WhenRequired, CRC32, CRC32C, CRC64NVME, SHA256, MD5} {
				options := v.options(endpoint)
				options.Checksum, options.Transport = mode, trusting
				sink := openSmall(t, options)
				for _, size := range []int64{0, 3000, parted} {
					o := sinktest.Object(sinktest.Key("c/", uint64(len(all))), size, uint64(len(all)))
					if err := sink.Put(t.Context(), o); err != nil {
						t.Errorf("checksum %s of %d bytes to %q: %v", mode, size, endpoint, err)
						continue
					}
					all = append(all, o)
				}
			}
		}
		v.has(all...)
		trusting.CloseIdleConnections()
	})
}

// headers records what requests carry.
type headers struct {
	mu  sync.Mutex
	all []http.Header
}

func (h *headers) match(operation string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if faultproxy.Operation(r) == operation {
			h.mu.Lock()
			h.all = append(h.all, r.Header.Clone())
			h.mu.Unlock()
		}
		return false
	}
}

// TestChecksumsAreSent: the store is told what to check, and the signature covers the bytes or leaves them to
// TLS and the checksum.
func TestChecksumsAreSent(t *testing.T) {
	s := servers[2].open(t)
	v := s.bucket(t)
	trusting := newTransport()
	trusting.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	defer trusting.CloseIdleConnections()
	const crc64, crc32, unsigned = "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Crc32", "UNSIGNED-PAYLOAD"
	for _, c := range []struct {
		tls       bool
		mode      string
		operation string
		want      string // header that must be there
		unsigned  bool
	}{
		{false, CRC64NVME, "PutObject", crc64, false},
		{true, CRC64NVME, "PutObject", crc64, false}, // its SHA-256 is known and costs nothing
		{false, CRC64NVME, "UploadPart", crc64, false},
		{true, CRC64NVME, "UploadPart", crc64, true},
		{true, CRC32, "UploadPart", crc32, true},
		{true, WhenRequired, "UploadPart", "", false},
		{false, MD5, "PutObject", "Content-Md5", false},
		{true, MD5, "UploadPart", "Content-Md5", false},
		{false, Auto, "PutObject", "", false},
	} {
		proxy := faultproxy.New(t, s.endpoint)
		if c.tls {
			proxy = faultproxy.NewTLS(t, s.endpoint)
		}
		var seen headers
		proxy.Inject(faultproxy.Rule{Match: seen.match(c.operation), Fault: faultproxy.DropBefore()})
		options := v.options(proxy.URL)
		options.Checksum, options.Transport = c.mode, trusting
		size := int64(3000)
		if c.operation == "UploadPart" {
			size = parted
		}
		o := sinktest.Object(sinktest.Key("h/", 1), size, 1)
		o.Key += fmt.Sprint(c)
		if err := openSmall(t, options).Put(t.Context(), o); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if len(seen.all) == 0 {
			t.Errorf("%+v: no such request", c)
		}
		for _, h := range seen.all {
			sums := 0
			for k := range h {
				if strings.HasPrefix(k, "X-Amz-Checksum-") || k == "Content-Md5" {
					sums++
				}
			}
			if c.want == "" && sums > 0 || c.want != "" && (h.Get(c.want) == "" || sums != 1) {
				t.Errorf("%+v: headers %v", c, h)
			}
			if got := h.Get("X-Amz-Content-Sha256"); (got == unsigned) != c.unsigned || !c.unsigned && len(got) != 64 {
				t.Errorf("%+v: signed payload %q", c, got)
			}
		}
	}
}

// TestServerSideEncryption on MinIO, which has a key.
func TestServerSideEncryption(t *testing.T) {
	s := servers[0].open(t)
	v := s.bucket(t)
	want := map[string][2]string{}
	for i, c := range []struct{ encryption, key, says, saysKey string }{
		{"", "", "", ""}, {AES256, "", "AES256", ""}, {KMS, s.kmsKey, "aws:kms", s.kmsKey},
	} {
		for _, size := range []int64{0, 3000, parted} {
			options := v.options("")
			options.Encryption, options.KMSKey = c.encryption, c.key
			o := sinktest.Object(sinktest.Key(fmt.Sprintf("e%d/", size), uint64(i)), size, uint64(i))
			sink := openSmall(t, options)
			for range 2 {
				if err := sink.Put(t.Context(), o); err != nil {
					t.Errorf("%q of %d bytes: %v", c.encryption, size, err)
				}
			}
			if err := sink.Verify(t.Context(), o); err != nil {
				t.Errorf("verify %q of %d bytes: %v", c.encryption, size, err)
			}
			if got := v.Get(o.Key); got.SHA256 != o.SHA256 {
				t.Errorf("%q: other content", c.encryption)
			}
			want[o.Key] = [2]string{c.says, c.saysKey}
		}
	}
	for o, err := range parts.S3Objects(s.client(), v.name) {
		if err != nil {
			t.Fatal(err)
		}
		w := want[o.Key]
		if o.Encryption != w[0] || !strings.HasSuffix(o.KMSKey, w[1]) || (w[1] == "") != (o.KMSKey == "") {
			t.Errorf("%q is encrypted with %q and key %q, want %v", o.Key, o.Encryption, o.KMSKey, w)
		}
	}
	options := v.options("")
	options.Encryption, options.KMSKey = KMS, "no-such-key"
	err := open(t, options).Put(t.Context(), sinktest.Object(sinktest.Key("x", 1), 10, 1))
	wantError(t, "unknown KMS key", err, sinks.RefusedDestination, "kms:KeyNotFound", "correct encryption.kms")
}

func TestStorageClass(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		v := s.bucket(t)
		options := v.options("")
		options.StorageClass = "STANDARD_IA"
		err := openSmall(t, options).Put(t.Context(), sinktest.Object(sinktest.Key("x", 1), 10, 1))
		if s.name == "minio" {
			wantError(t, "put", err, sinks.RefusedDestination, "InvalidStorageClass", "storage_class")
		} else if err != nil {
			t.Error(err)
		}
	})
}

// rotating are keys that are replaced while the sink lives.
type rotating struct {
	mu     sync.Mutex
	secret string
	asked  int
}

func (r *rotating) keys() (string, string, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return "testkey", r.secret, "", nil
}

func (r *rotating) set(secret string) {
	r.mu.Lock()
	r.secret = secret
	r.mu.Unlock()
}

// TestKeysAreReplacedInPlace: the store refuses the keys, others are there by then, and the next put has them.
func TestKeysAreReplacedInPlace(t *testing.T) {
	s := servers[1].open(t)
	v := s.bucket(t)
	for _, size := range []int64{100, parted} {
		keys := &rotating{secret: "old"}
		options := v.options("")
		options.Credentials.Keys = keys.keys
		sink := openSmall(t, options)
		o := sinktest.Object(sinktest.Key("k/", uint64(size)), size, 1)
		wantError(t, "old keys", sink.Put(t.Context(), o), sinks.RefusedDestination, "SignatureDoesNotMatch", "correct secret")
		keys.set(s.secretKey)
		if err := sink.Put(t.Context(), o); err != nil {
			wantError(t, "after the keys were replaced", err, sinks.NotStored, "SignatureDoesNotMatch", "other credentials")
			err = sink.Put(t.Context(), o)
			if err != nil {
				t.Errorf("new keys: %v", err)
			}
		}
		before := keys.asked
		for range 3 {
			if err := sink.Put(t.Context(), o); err != nil {
				t.Error(err)
			}
		}
		if keys.asked != before {
			t.Errorf("good keys were asked for %d times more", keys.asked-before)
		}
	}
}

func TestKeysThatCannotBeRead(t *testing.T) {
	for _, keys := range []func() (string, string, string, error){
		func() (string, string, string, error) { return "", "", "", os.ErrNotExist },
		StaticKeys("", "", ""), StaticKeys("id", "", ""),
	} {
		s := open(t, Options{Bucket: "b", Endpoint: "http://127.0.0.1:1", Credentials: Credentials{Keys: keys}})
		wantError(t, "put", s.Put(t.Context(), sinktest.Object("k", 1, 1)), sinks.RefusedDestination, "NoCredentials", "give credentials")
	}
}

// TestProfile reads the shared files of AWS.
func TestProfile(t *testing.T) {
	s := servers[1].open(t)
	v := s.bucket(t)
	dir := t.TempDir()
	for k, value := range map[string]string{
		"AWS_SHARED_CREDENTIALS_FILE": dir + "/credentials", "AWS_CONFIG_FILE": dir + "/config", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
	} {
		t.Setenv(k, value)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config", "")
	options := v.options("")
	options.Credentials = Credentials{Profile: "lake"}
	sink := open(t, options)
	o := sinktest.Object(sinktest.Key("p/", 1), 100, 1)
	wantError(t, "no such profile", sink.Put(t.Context(), o), sinks.RefusedDestination, "NoCredentials", "lake")
	// The file is corrected while the sink lives.
	write("credentials", fmt.Sprintf("[lake]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s.accessKey, s.secretKey))
	if err := sink.Put(t.Context(), o); err != nil {
		t.Errorf("profile: %v", err)
	}

	// The chain without anything in it, and with keys and an endpoint in the environment.
	options.Credentials = Credentials{}
	wantError(t, "no credentials anywhere", open(t, options).Put(t.Context(), o), sinks.RefusedDestination, "NoCredentials", "give credentials")
	t.Setenv("AWS_ACCESS_KEY_ID", s.accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.secretKey)
	t.Setenv("AWS_ENDPOINT_URL_S3", s.endpoint)
	sink = open(t, Options{Bucket: v.name, Region: "us-east-1"})
	if err := sink.Put(t.Context(), o); err != nil {
		t.Errorf("the environment: %v", err)
	}
	if sink.conn.checksum != WhenRequired || sink.conn.tls {
		t.Errorf("an endpoint from the environment is taken for AWS's: %+v", sink.conn)
	}
	v.has(o)
}

// tokens is a token service that gives out the store's root key under a new session each time, or keys that
// are no good.
type tokens struct {
	mu     sync.Mutex
	asked  []url.Values
	secret string
	life   time.Duration
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	s.asked = append(s.asked, r.Form)
	type credentials struct {
		AccessKeyID                   string `xml:"AccessKeyId"`
		SecretAccessKey, SessionToken string
		Expiration                    time.Time
	}
	type response struct {
		XMLName xml.Name    `xml:"AssumeRoleResponse"`
		Keys    credentials `xml:"AssumeRoleResult>Credentials"`
	}
	_ = xml.NewEncoder(w).Encode(response{Keys: credentials{"testkey", s.secret, fmt.Sprintf("session-%d", len(s.asked)), time.Now().Add(s.life)}})
}

// TestRoleIsAssumedAndRenewed.
func TestRoleIsAssumedAndRenewed(t *testing.T) {
	service := &tokens{secret: "secret", life: time.Hour}
	sts := httptest.NewServer(service)
	defer sts.Close()
	// The store takes the newest session only.
	good := "session-1"
	var mu sync.Mutex
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if got := r.Header.Get("X-Amz-Security-Token"); got != good {
			w.WriteHeader(400)
			fmt.Fprint(w, `<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>`)
			return
		}
		w.Header().Set("ETag", `"x"`)
	}))
	defer store.Close()
	s := open(t, Options{Bucket: "lake", Endpoint: store.URL, STSEndpoint: sts.URL,
		Credentials: Credentials{Keys: StaticKeys("base", "secret", ""), RoleARN: "arn:aws:iam::123456789012:role/delivery"}})
	o := sinktest.Object(sinktest.Key("r/", 1), 100, 1)
	for range 3 {
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if len(service.asked) != 1 || service.asked[0].Get("RoleArn") != "arn:aws:iam::123456789012:role/delivery" {
		t.Errorf("the token service was asked %v", service.asked)
	}
	mu.Lock()
	good = "session-2"
	mu.Unlock()
	wantError(t, "expired", s.Put(t.Context(), o), sinks.NotStored, "ExpiredToken", "other credentials")
	if err := s.Put(t.Context(), o); err != nil {
		t.Errorf("with the new session: %v", err)
	}

	// Credentials that end soon are renewed before they do.
	service.life = time.Minute
	mu.Lock()
	good = "session-3"
	mu.Unlock()
	wantError(t, "expired", s.Put(t.Context(), o), sinks.NotStored, "ExpiredToken", "other credentials")
	before := len(service.asked)
	_ = s.Put(t.Context(), o)
	if len(service.asked) == before {
		t.Error("credentials with a minute to live are used on")
	}

	// A token service that refuses.
	sts.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`)
	})
	wantError(t, "role denied", s.Put(t.Context(), o), sinks.RefusedDestination, "NoCredentials", "not you")
}

// TestRoleWithoutRights: a role has new credentials for whoever asks. That they are denied as well says that its
// rights are wanting: the destination refuses, and the token service is not asked at each attempt.
func TestRoleWithoutRights(t *testing.T) {
	service := &tokens{secret: "secret", life: time.Hour}
	sts := httptest.NewServer(service)
	defer sts.Close()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		fmt.Fprint(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
	}))
	defer store.Close()
	s := open(t, Options{Bucket: "lake", Endpoint: store.URL, STSEndpoint: sts.URL,
		Credentials: Credentials{Keys: StaticKeys("base", "secret", ""), RoleARN: "arn:aws:iam::123456789012:role/delivery"}})
	o := sinktest.Object(sinktest.Key("r/", 1), 100, 1)
	wantError(t, "denied once", s.Put(t.Context(), o), sinks.NotStored, "AccessDenied", "other credentials")
	for range 5 {
		wantError(t, "denied again", s.Put(t.Context(), o), sinks.RefusedDestination, "AccessDenied", "grant s3:PutObject")
	}
	if n := len(service.asked); n != 2 {
		t.Errorf("the token service was asked %d times, want 2", n)
	}
	s.connecting.Lock()
	s.denials.at = time.Now().Add(-renewEvery)
	s.connecting.Unlock()
	wantError(t, "a minute later", s.Put(t.Context(), o), sinks.RefusedDestination, "AccessDenied", "grant s3:PutObject")
	if n := len(service.asked); n != 3 {
		t.Errorf("a minute later the token service was asked %d times, want 3", n)
	}
}

// TestClockSkew: the store tells the time, and the next put has it right.
func TestClockSkew(t *testing.T) {
	const off = 3 * time.Hour
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(off)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || now.Sub(at).Abs() > 15*time.Minute {
			w.WriteHeader(403)
			fmt.Fprint(w, `<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>`)
			return
		}
		w.Header().Set("ETag", `"x"`)
	}))
	defer store.Close()
	s := open(t, Options{Bucket: "lake", Endpoint: store.URL, Credentials: Credentials{Keys: StaticKeys("k", "s", "")}})
	o := sinktest.Object(sinktest.Key("r/", 1), 100, 1)
	wantError(t, "skewed", s.Put(t.Context(), o), sinks.NotStored, "RequestTimeTooSkewed", "clock is wrong")
	if err := s.Put(t.Context(), o); err != nil {
		t.Errorf("after the store has told the time: %v", err)
	}
}

// TestAddresses are where requests go.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		options Options
		host    string
		path    string
	}{
		{Options{Region: "eu-west-1"}, "lake.s3.eu-west-1.amazonaws.com", "/k"},
		{Options{Region: "eu-west-1", PathStyle: PathStyleOn}, "s3.eu-west-1.amazonaws.com", "/lake/k"},
		{Options{Endpoint: "http://store.test:9000"}, "store.test:9000", "/lake/k"},
		{Options{Endpoint: "https://store.test/base/"}, "store.test", "/base/lake/k"},
		{Options{Endpoint: "http://store.test:9000", PathStyle: PathStyleOff}, "lake.store.test:9000", "/k"},
	} {
		var got *url.URL
		c.options.Bucket = "lake"
		c.options.Credentials.Keys = StaticKeys("k", "s", "")
		c.options.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			got = r.URL
			return nil, http.ErrHandlerTimeout
		})
		_ = open(t, c.options).Put(t.Context(), sinktest.Object("k", 1, 1))
		if got == nil || got.Host != c.host || got.Path != c.path {
			t.Errorf("%+v asks %v, want %s%s", c.options.Endpoint, got, c.host, c.path)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOptionsCannotBePrinted with what must stay secret.
func TestOptionsCannotBePrinted(t *testing.T) {
	o := Options{Bucket: "b", Credentials: Credentials{Keys: StaticKeys("id", "top-secret", "token")}}
	for _, text := range []string{fmt.Sprintf("%v", o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o)} {
		if strings.Contains(text, "top-secret") {
			t.Errorf("%s", text)
		}
	}
}
