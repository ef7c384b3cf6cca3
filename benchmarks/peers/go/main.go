// The work by Go: two goroutines that take jobs from a channel. A line on standard input is one round, as "closures 1000000";
// the answer is a line of JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
)

const (
	workers  = 2
	capacity = 8192 // of channels: as many as fastpool's queue holds by default
)

// answer is what a round prints.
type answer struct {
	Ns      int64   `json:"ns"`
	Jobs    int64   `json:"jobs"`
	Squares uint64  `json:"squares,omitempty"`
	Sum     float64 `json:"sum,omitempty"`
}

var rounds = map[string]func(n int) answer{
	"closures": closures,
	"structs":  structs,
	"results":  results,
	"replies":  replies,
}

func main() {
	runtime.GOMAXPROCS(workers)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var name string
		var n int
		fmt.Sscan(lines.Text(), &name, &n)
		runtime.GC() // a round does not pay for the garbage of the one before; its own it does
		encoded, err := json.Marshal(rounds[name](n))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(encoded))
	}
}

// since is the time from begin on, in nanoseconds.
func since(begin time.Time) int64 {
	return time.Since(begin).Nanoseconds()
}
