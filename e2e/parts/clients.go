package parts

import (
	"context"
	"os/exec"
	"testing"
	"time"
)

// AWSCLI is the path of the AWS command line.
func AWSCLI(t testing.TB) string {
	t.Helper()
	// By path: another Python in PATH may hide Debian's, and bring a CLI of its own.
	return need(t, "/usr/bin/aws", "as root "+makeTools+", or install the Debian package awscli")
}

// Boto3 is the path of a Python that has boto3.
func Boto3(t testing.TB) string {
	t.Helper()
	const how = "as root " + makeTools + ", or install the Debian package python3-boto3"
	python := need(t, "/usr/bin/python3", how)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, python, "-c", "import boto3").Run(); err != nil {
		Missing(t, "boto3 for "+python, how)
	}
	return python
}

// Python is the path of a Python that has a module: one of its standard library, or of the Debian package
// python3-MODULE.
func Python(t testing.TB, module string) string {
	t.Helper()
	how := "as root " + makeTools + ", or install the Debian package python3-" + module
	python := need(t, "/usr/bin/python3", how)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, python, "-c", "import "+module).Run(); err != nil {
		Missing(t, module+" for "+python, how)
	}
	return python
}
