package firehose

import (
	"fmt"
	"strings"
	"testing"
)

// Every bound of a Redshift and an HTTP destination, on both sides.
func TestLimitsOfDestinations(t *testing.T) {
	text := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	list := func(n int, of func(i int) string) string {
		var all []string
		for i := range n {
			all = append(all, of(i))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	number := func(n int) string { return fmt.Sprint(n) }
	attributes := func(n int) string {
		return list(n, func(i int) string { return fmt.Sprintf(`{"AttributeName":"a%d","AttributeValue":""}`, i) })
	}
	jdbc := func(n int) string {
		const around = "jdbc:redshift://c.redshift.eu-west-1.amazonaws.com:5439/"
		return `"` + around + strings.Repeat("d", n-len(around)) + `"`
	}
	url := func(n int) string { return `"https://h/` + strings.Repeat("x", n-len("https://h/")) + `"` }
	attribute := func(name, value func(int) string) func(int) string {
		return func(n int) string {
			return `[{"AttributeName":` + name(n) + `,"AttributeValue":` + value(n) + `}]`
		}
	}
	short := func(int) string { return `"a"` }
	const length, value = "length", "value"
	for _, c := range []struct {
		body, path  string
		make        func(n int) string
		least, most int    // -1: no such bound
		what, at    string // of the fault
	}{
		{toHTTP, httpd + "EndpointConfiguration.Url", url, -1, 1000, length, "endpointConfiguration.url"},
		{toHTTP, httpd + "EndpointConfiguration.Name", text, 1, 256, length, "endpointConfiguration.name"},
		{toHTTP, httpd + "EndpointConfiguration.AccessKey", text, -1, 4096, length, "endpointConfiguration.accessKey"},
		{toHTTP, httpd + "BufferingHints.SizeInMBs", number, 1, 64, value, "bufferingHints.sizeInMBs"},
		{toHTTP, httpd + "BufferingHints.IntervalInSeconds", number, 0, 900, value, "bufferingHints.intervalInSeconds"},
		{toHTTP, httpd + "RetryOptions.DurationInSeconds", number, 0, 7200, value, "retryOptions.durationInSeconds"},
		{toHTTP, httpd + "RequestConfiguration.CommonAttributes", attributes, -1, 50, length, "requestConfiguration.commonAttributes"},
		{toHTTP, httpd + "RequestConfiguration.CommonAttributes", attribute(text, short), 1, 256, length, "requestConfiguration.commonAttributes.1.member.attributeName"},
		{toHTTP, httpd + "RequestConfiguration.CommonAttributes", attribute(short, text), -1, 1024, length, "requestConfiguration.commonAttributes.1.member.attributeValue"},
		{toHTTP, httpd + "S3Configuration.BufferingHints.SizeInMBs", number, 1, 128, value, "s3Configuration.bufferingHints.sizeInMBs"},
		{toRed, red + "ClusterJDBCURL", jdbc, -1, 512, length, "clusterJDBCURL"},
		{toRed, red + "CopyCommand.DataTableName", text, 1, 512, length, "copyCommand.dataTableName"},
		{toRed, red + "CopyCommand.DataTableColumns", text, -1, 10240, length, "copyCommand.dataTableColumns"},
		{toRed, red + "CopyCommand.CopyOptions", text, -1, 10240, length, "copyCommand.copyOptions"},
		{toRed, red + "Username", text, 1, 512, length, "username"},
		{toRed, red + "Password", text, 6, 512, length, "password"},
		{toRed, red + "RetryOptions.DurationInSeconds", number, 0, 7200, value, "retryOptions.durationInSeconds"},
		{toRed, red + "S3Configuration.Prefix", text, -1, 1024, length, "s3Configuration.prefix"},
	} {
		body := func(n int) string {
			b := c.body
			for _, sub := range []string{"BufferingHints", "RetryOptions", "RequestConfiguration", "S3Configuration.BufferingHints"} {
				if at := c.path[:strings.Index(c.path, ".")+1] + sub; strings.HasPrefix(c.path, at+".") {
					b = edit(t, b, at+`={}`)
				}
			}
			return edit(t, b, c.path+"="+c.make(n))
		}
		refused := func(n int, constraint string) {
			t.Helper()
			_, _, err := create(body(n))
			e, ok := err.(*Error)
			if !ok || e.Code != CodeValidation || !strings.Contains(e.Message, c.at+"' failed to satisfy constraint: "+constraint) || strings.Contains(e.Message, "xxxxx") {
				t.Errorf("%s of %d: %.300v, want %s", c.path, n, err, constraint)
			}
		}
		for _, n := range []int{c.least, c.most} {
			if n < 0 {
				continue
			}
			// A prefix as long as shapes allow is too long all the same, by a rule of its own.
			if _, _, err := create(body(n)); err != nil && !strings.Contains(err.Error(), "Length of evaluated prefix") {
				t.Errorf("%s of %d: %.300v", c.path, n, err)
			}
		}
		if c.least >= 0 {
			refused(c.least-1, AtLeast(c.what, int64(c.least)))
		}
		refused(c.most+1, AtMost(c.what, int64(c.most)))
	}
	for _, bad := range []string{"http://h/", "ftp://h/", "HTTPS://h/", ""} {
		if _, _, err := create(edit(t, toHTTP, httpd+`EndpointConfiguration.Url="`+bad+`"`)); err == nil || !strings.HasPrefix(err.Error(), CodeValidation) {
			t.Errorf("URL %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"postgres://c.redshift.eu-west-1.amazonaws.com:5439/dev", "jdbc:redshift://c.example.com:5439/dev", "jdbc:redshift://c.redshift.eu-west-1.amazonaws.com/dev",
		"jdbc:redshift://-c.redshift.eu-west-1.amazonaws.com:5439/dev", "jdbc:redshift://c.redshift.eu-west-1.amazonaws.com:543900/dev", "jdbc:redshift://c.redshift.eu-west-1.amazonaws.com:5439/"} {
		if _, _, err := create(edit(t, toRed, red+`ClusterJDBCURL="`+bad+`"`)); err == nil || !strings.HasPrefix(err.Error(), CodeValidation) {
			t.Errorf("JDBC URL %q: %v", bad, err)
		}
	}
}
