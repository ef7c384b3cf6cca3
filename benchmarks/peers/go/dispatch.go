package main

import (
	"sync"
	"time"
)

// counter is one for each worker, padded so that they do not wait for each other's cache line.
type counter struct {
	jobs    int64
	squares uint64
	_       [112]byte
}

func (c *counter) add(number int) {
	c.jobs++
	c.squares += uint64(number) * uint64(number)
}

func total(counters *[workers]counter, begin time.Time) answer {
	found := answer{Ns: since(begin)}
	for i := range counters {
		found.Jobs += counters[i].jobs
		found.Squares += counters[i].squares
	}
	return found
}

// closures sends each job as a function that holds its argument: the usual shape.
func closures(n int) answer {
	var counters [workers]counter
	var group sync.WaitGroup
	begin := time.Now()
	jobs := make(chan func(*counter), capacity)
	group.Add(workers)
	for i := range counters {
		go func(own *counter) {
			defer group.Done()
			for job := range jobs {
				job(own)
			}
		}(&counters[i])
	}
	for i := 0; i < n; i++ {
		number := i
		jobs <- func(own *counter) { own.add(number) }
	}
	close(jobs)
	group.Wait()
	return total(&counters, begin)
}

// task is a job that needs no memory of its own.
type task struct {
	run    func(own *counter, number int)
	number int
}

// structs sends a function and its argument side by side, which saves an allocation a job.
func structs(n int) answer {
	var counters [workers]counter
	var group sync.WaitGroup
	begin := time.Now()
	jobs := make(chan task, capacity)
	group.Add(workers)
	for i := range counters {
		go func(own *counter) {
			defer group.Done()
			for job := range jobs {
				job.run(own, job.number)
			}
		}(&counters[i])
	}
	for i := 0; i < n; i++ {
		jobs <- task{(*counter).add, i}
	}
	close(jobs)
	group.Wait()
	return total(&counters, begin)
}
