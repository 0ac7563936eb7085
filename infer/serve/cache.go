package serve

import (
	"container/list"
	"crypto/sha256"
	"sync"

	"rmtrain/data/tokenizer"
)

// A cacheKey identifies a conversation and how it is to be encoded, without keeping
// its text.
type cacheKey [sha256.Size]byte

// A cache remembers the ids of the conversations that were asked for last.
type cache struct {
	most int // ids

	mu     sync.Mutex
	ids    int
	recent *list.List // of *cached, the latest first
	at     map[cacheKey]*list.Element
}

type cached struct {
	key  cacheKey
	conv tokenizer.Encoded
}

// cachedOverhead is counted with the ids of each entry: what it needs beside them.
const cachedOverhead = 64

func newCache(most int) *cache {
	return &cache{most: most, recent: list.New(), at: map[cacheKey]*list.Element{}}
}

func (c *cache) get(k cacheKey) (tokenizer.Encoded, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[k]
	if !ok {
		return tokenizer.Encoded{}, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached).conv, true
}

// put remembers conv, whose ids nobody may change any more.
func (c *cache) put(k cacheKey, conv tokenizer.Encoded) {
	size := len(conv.IDs) + cachedOverhead
	if size > c.most/4 { // one conversation must not drive out all others
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.at[k]; ok {
		return
	}
	c.at[k] = c.recent.PushFront(&cached{k, conv})
	c.ids += size
	for c.ids > c.most {
		last := c.recent.Back()
		old := c.recent.Remove(last).(*cached)
		delete(c.at, old.key)
		c.ids -= len(old.conv.IDs) + cachedOverhead
	}
}
