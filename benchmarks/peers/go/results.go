package main

import "time"

func polynomial(x float64) float64 {
	return 1.0 + x*(1.0/2+x*(-1.0/3+x*(1.0/4+x*(-1.0/5+x*(1.0/6)))))
}

// at is element i of n from -1 to 1.
func at(i, n int) float64 {
	return -1 + 2*float64(i)/float64(n-1)
}

func sum(values []float64, begin time.Time) answer {
	found := answer{Ns: since(begin), Jobs: int64(len(values))}
	for _, value := range values {
		found.Sum += value
	}
	return found
}

type indexed struct {
	index int
	value float64
}

// results sends what all jobs give through one channel.
func results(n int) answer {
	out := make([]float64, n)
	begin := time.Now()
	jobs := make(chan indexed, capacity)
	done := make(chan indexed, capacity)
	for i := 0; i < workers; i++ {
		go func() {
			for job := range jobs {
				done <- indexed{job.index, polynomial(job.value)}
			}
		}()
	}
	go func() {
		for i := 0; i < n; i++ {
			jobs <- indexed{i, at(i, n)}
		}
		close(jobs)
	}()
	for i := 0; i < n; i++ {
		result := <-done
		out[result.index] = result.value
	}
	return sum(out, begin)
}

type request struct {
	value float64
	reply chan float64
}

// replies gives each job a channel for its result: the nearest that Go has to a future.
func replies(n int) answer {
	out := make([]float64, n)
	begin := time.Now()
	jobs := make(chan request, capacity)
	for i := 0; i < workers; i++ {
		go func() {
			for job := range jobs {
				job.reply <- polynomial(job.value)
			}
		}()
	}
	futures := make([]chan float64, n)
	for i := range futures {
		futures[i] = make(chan float64, 1)
		jobs <- request{at(i, n), futures[i]}
	}
	close(jobs)
	for i, future := range futures {
		out[i] = <-future
	}
	return sum(out, begin)
}
