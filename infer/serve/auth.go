package serve

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Keys are what clients must show. Only digests are kept.
type Keys struct {
	mu      sync.RWMutex
	digests [][sha256.Size]byte
}

// Replace makes k the same as next, whose use ends with that.
func (k *Keys) Replace(next *Keys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.digests = next.digests
}

// ReadKeys reads keys, one a line; empty lines and those that begin with # do not count.
func ReadKeys(r io.Reader) (*Keys, error) {
	k := &Keys{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		key := strings.TrimSpace(lines.Text())
		if key == "" || key[0] == '#' {
			continue
		}
		if strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("line %d has a space in it (write one key a line)", n)
		}
		k.digests = append(k.digests, sha256.Sum256([]byte(key)))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(k.digests) == 0 {
		return nil, errors.New("it has no key (write one a line; lines that begin with # do not count)")
	}
	return k, nil
}

// check returns a name for the owner of the key in h. How long it takes tells nothing
// of any key.
func (k *Keys) check(h http.Header) (name string, ok bool) {
	key := h.Get("X-API-Key")
	if scheme, rest, found := strings.Cut(h.Get("Authorization"), " "); found && strings.EqualFold(scheme, "Bearer") {
		key = strings.TrimSpace(rest)
	}
	digest := sha256.Sum256([]byte(key))
	k.mu.RLock()
	defer k.mu.RUnlock()
	at := -1
	for i := range k.digests {
		equal := subtle.ConstantTimeCompare(digest[:], k.digests[i][:])
		at = subtle.ConstantTimeSelect(equal, i, at)
	}
	if at < 0 {
		return "", false
	}
	return fmt.Sprintf("key-%d", at+1), true
}

// CheckAddress refuses to let the world in without keys, unless told to.
func CheckAddress(address string, keys *Keys, allowUnauthenticated bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		var wrong *net.AddrError
		if errors.As(err, &wrong) {
			err = errors.New(wrong.Err)
		}
		return fmt.Errorf("serve: address %q: %w (give host:port, such as 127.0.0.1:8000)", address, err)
	}
	if keys != nil || allowUnauthenticated {
		return nil
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("serve: %s can be reached from other machines, and without an API key anybody could use the model (give --api-key-file, listen on 127.0.0.1, or say --allow-unauthenticated)", address)
}
