package admin

import (
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
)

// Source is a package's counters: a plain struct, whose exported fields become metrics named PREFIX_FIELD_NAME.
//
//   - uint64, atomic.Uint64, atomic.Int64: a counter, its name ending in _total
//   - time.Duration: a gauge in seconds, its name ending in _seconds
//   - any other number, and whatever Gauges names: a gauge
//   - map[string]N with N a plain number: the same with a label for the key, which the field's tag `label:"…"` names ("name" without one)
//
// The tag `help:"…"` is the metric's help. Fields of other types are left out.
type Source struct {
	Prefix string
	Read   func() any // the struct or a pointer to it; called from any goroutine
	Gauges []string   // fields that go up and down
}

// collector turns sources into metrics. It describes none beforehand: that is read off the structs.
type collector struct{ sources []Source }

func (c *collector) Describe(chan<- *prometheus.Desc) {}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.sources {
		v := reflect.Indirect(reflect.ValueOf(s.Read()))
		for f := range v.Type().Fields() {
			if f.IsExported() {
				s.collect(out, f, v.FieldByIndex(f.Index))
			}
		}
	}
}

// collect sends the metrics of one field.
func (s *Source) collect(out chan<- prometheus.Metric, f reflect.StructField, v reflect.Value) {
	t := f.Type
	var labels []string
	if t.Kind() == reflect.Map && t.Key().Kind() == reflect.String {
		t = t.Elem()
		label := f.Tag.Get("label")
		if label == "" {
			label = "name"
		}
		labels = []string{label}
	}
	suffix, kind, ok := metricKind(t)
	if !ok {
		return
	}
	if slices.Contains(s.Gauges, f.Name) {
		suffix, kind = "", prometheus.GaugeValue
	}
	desc := prometheus.NewDesc(s.Prefix+"_"+snake(f.Name)+suffix, f.Tag.Get("help"), labels, nil)
	if labels == nil {
		out <- prometheus.MustNewConstMetric(desc, kind, number(v))
		return
	}
	for k, e := range v.Seq2() {
		out <- prometheus.MustNewConstMetric(desc, kind, number(e), k.String())
	}
}

func metricKind(t reflect.Type) (suffix string, kind prometheus.ValueType, ok bool) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "_seconds", prometheus.GaugeValue, true
	case reflect.TypeFor[uint64](), reflect.TypeFor[atomic.Uint64](), reflect.TypeFor[atomic.Int64]():
		return "_total", prometheus.CounterValue, true
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Float32, reflect.Float64:
		return "", prometheus.GaugeValue, true
	}
	return "", 0, false
}

// number reads a field of a kind that metricKind knows.
func number(v reflect.Value) float64 {
	if v.Kind() == reflect.Struct { // atomic: a copy would not be
		switch n := v.Addr().Interface().(type) {
		case *atomic.Uint64:
			return float64(n.Load())
		case *atomic.Int64:
			return float64(n.Load())
		}
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return time.Duration(v.Int()).Seconds()
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	}
	return v.Float()
}

// snake turns a field's name into a metric's: QueuedBytes into queued_bytes, TLSHandshakes into tls_handshakes.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
