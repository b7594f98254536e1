package decode

import (
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestEachConditionOfARetryIsCarried(t *testing.T) {
	for on, want := range map[string]config.Retry{
		"":                       {},
		"connect-failure":        {ConnectFailure: true},
		"refused-stream":         {RefusedStream: true},
		"unavailable":            {Unavailable: true},
		"cancelled":              {Cancelled: true},
		"retriable-status-codes": {},
		"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes": {ConnectFailure: true, RefusedStream: true, Unavailable: true, Cancelled: true},
	} {
		want.Attempts, want.BaseInterval = 2, time.Second
		got, err := retry("retry_policy", &routev3.RetryPolicy{
			RetryOn: on, NumRetries: wrapperspb.UInt32(2), RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(time.Second)},
		})
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%q: %v %s", on, err, d)
		}
	}
}
