package s3

import (
	"strings"
	"testing"

	"hydrant/e2e/parts/faultproxy"
	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

func TestSuite(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		// On one store sizes are the real ones, on the others the least that they take: three times fewer bytes.
		large, open := int64(singlePut+1<<20), open // a size that makes a multipart upload of two parts
		if s.name != "minio" {
			large, open = parted, openSmall
		}
		target := sinktest.Target{
			Large: large, InProcess: s.inProcess, Overwrites: s.completeOverwrites,
			RefusedKeys: []string{strings.Repeat("k", maxKey+1)},
			Open: func(t *testing.T) sinktest.Fixture {
				v := s.bucket(t)
				proxy := faultproxy.New(t, s.endpoint)
				return sinktest.Fixture{
					Sink: open(t, v.options(proxy.URL)), Store: v,
					Reopen: func() sinks.Sink { return open(t, v.options("")) },
					LoseAnswer: func(committed bool) {
						f := faultproxy.DropBefore()
						if committed {
							f = faultproxy.DropAfter()
						}
						proxy.Inject(faultproxy.Rule{Match: faultproxy.On("PutObject", "CompleteMultipartUpload"), Fault: f})
					},
					Refuse: func(r sinktest.Refusal) {
						f := map[sinktest.Refusal]faultproxy.Fault{
							sinktest.Busy: faultproxy.Answer(503, "SlowDown"), sinktest.Broken: faultproxy.Answer(500, "InternalError"),
							sinktest.Denied: faultproxy.Answer(403, "AccessDenied"), sinktest.TooLarge: faultproxy.Answer(400, "EntityTooLarge"),
						}[r]
						proxy.Inject(faultproxy.Rule{Match: faultproxy.On("PutObject", "CreateMultipartUpload"), Fault: f})
					},
				}
			},
		}
		if s.name != "versitygw" { // there a key's components are names of files
			target.OddKeys = []string{strings.Repeat("b", 200) + "/" + strings.Repeat("c", 200) + "/"}
		}
		sinktest.Run(t, target)
	})
}
