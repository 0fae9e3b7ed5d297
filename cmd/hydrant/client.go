package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hydrant/admin"
	"hydrant/config"
)

// Where a daemon with the default configuration listens.
const (
	defaultAPI   = "http://127.0.0.1:4573"
	defaultAdmin = "http://127.0.0.1:4574"
)

// adminClient asks a running daemon's admin API.
type adminClient struct {
	base  string
	token string // "": none is sent
	http  http.Client
}

// adminAt is where a daemon's admin listener is, and what it asks for.
type adminAt struct{ url, tokenFile string }

func (a *adminAt) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.url, "admin", defaultAdmin, "`URL` of the daemon's admin listener, or unix:/PATH")
	cmd.Flags().StringVar(&a.tokenFile, "token-file", "", "`FILE` of a token for the admin listener")
	cmd.MarkFlagFilename("token-file")
}

func newAdminClient(at adminAt) (*adminClient, error) {
	a := &adminClient{base: strings.TrimSuffix(at.url, "/")}
	if path, ok := strings.CutPrefix(at.url, "unix:"); ok && path != "" {
		a.base = "http://localhost"
		a.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}
	} else if u, err := url.Parse(at.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--admin %q is not a URL: write it like %s", at.url, defaultAdmin)}
	}
	if at.tokenFile != "" {
		var err error
		if a.token, err = config.SecretFile(at.tokenFile).Value(); err != nil {
			return nil, usageError{fmt.Errorf("--token-file: %w", err)}
		}
	}
	return a, nil
}

// answerError is an answer other than 200.
type answerError struct {
	code    int
	message string
	body    []byte
}

func (e *answerError) Error() string { return e.message }

// do makes a request and returns the body of a 200. timeout is for the answer to begin and end.
func (a *adminClient) do(ctx context.Context, method, path string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	defer a.http.CloseIdleConnections()
	resp, err := a.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("nothing listens on %s: is the daemon running, and is this its admin listener?", a.base)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, a.base+path, err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = fmt.Sprintf("%s %s: %s", method, a.base+path, resp.Status)
	}
	if resp.StatusCode == http.StatusUnauthorized && a.token == "" {
		said.Error += " (give one that the daemon knows with --token-file)"
	}
	return nil, &answerError{resp.StatusCode, said.Error, body}
}

const shortTimeout = 10 * time.Second

func (a *adminClient) list(ctx context.Context, timeout time.Duration) ([]admin.Status, error) {
	body, err := a.do(ctx, http.MethodGet, "/v1/streams", timeout)
	if err != nil {
		return nil, err
	}
	var out struct {
		Streams []admin.Status `json:"streams"`
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("%s does not answer like an admin listener: %w", a.base, err)
	}
	return out.Streams, nil
}

func (a *adminClient) get(ctx context.Context, name string) (s admin.Status, err error) {
	body, err := a.do(ctx, http.MethodGet, "/v1/streams/"+url.PathEscape(name), shortTimeout)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%s does not answer like an admin listener: %w", a.base, err)
	}
	return s, nil
}
