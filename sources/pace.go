package sources

import (
	"io"
	"net/http"
	"time"
)

// How fast the body of a request has to come. Memory is admitted for it before it is read, so who opens requests and
// sends a byte now and then would keep others from theirs.
const (
	// BodyGrace is the time that a body has whatever comes of it.
	BodyGrace = 10 * time.Second
	// BodyRate is how many bytes a second it gets one second more for: a slow mobile connection's. What came early
	// counts for later.
	BodyRate = 16 << 10
	// DefaultBodyTimeout is the most that a body gets.
	DefaultBodyTimeout = 60 * time.Second
)

// PaceBody returns a reader of a request's body that fails with os.ErrDeadlineExceeded where the body takes longer
// than most, or comes slower than BodyRate after BodyGrace. package http ends the limit where the body ends, so that it
// does not cancel what follows. On a connection that knows no deadlines nothing is limited.
func PaceBody(w http.ResponseWriter, body io.Reader, most time.Duration) io.Reader {
	p := &paced{Reader: body, connection: http.NewResponseController(w), began: time.Now(), most: most, allowed: min(BodyGrace, most)}
	p.limit()
	return p
}

type paced struct {
	io.Reader
	connection *http.ResponseController
	began      time.Time
	came       int64         // bytes
	allowed    time.Duration // since began, what the connection was told
	most       time.Duration
}

func (p *paced) limit() { _ = p.connection.SetReadDeadline(p.began.Add(p.allowed)) }

// Read tells the connection of more time for each whole second that it has earned, and not after the body's end:
// the limit has ended there.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.came += int64(n)
	if err != nil {
		return n, err
	}
	if earned := min(BodyGrace+time.Duration(p.came/BodyRate)*time.Second, p.most); earned > p.allowed {
		p.allowed = earned
		p.limit()
	}
	return n, nil
}
