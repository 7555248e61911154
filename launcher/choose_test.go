package launcher

import (
	"errors"
	"testing"
)

func TestChooseTransport(t *testing.T) {
	for _, test := range []struct{ vmm, asked, want, err string }{
		{vmm: "qemu", asked: "auto", want: "vhost-user"},
		{vmm: "qemu", asked: "vhost-user", want: "vhost-user"},
		{vmm: "qemu", asked: "virtiofsd", want: "virtiofsd"},
		{vmm: "krun", asked: "", want: "krun"},
		{vmm: "krun", asked: "krun", want: "krun"},
		{vmm: "qemu", asked: "krun", err: "transport krun does not work with vmm qemu: use vhost-user or virtiofsd"},
		{vmm: "krun", asked: "vhost-user", err: "transport vhost-user does not work with vmm krun: use krun"},
		{vmm: "krun", asked: "virtiofsd", err: "transport virtiofsd does not work with vmm krun: use krun"},
		{vmm: "qemu", asked: "9p", err: "transport 9p does not work with vmm qemu: use vhost-user or virtiofsd"},
		{vmm: "xen", asked: "auto", err: `no vmm "xen": use auto, krun or qemu`},
	} {
		got, err := chooseTransport(test.asked, test.vmm)
		if message := errorText(err); got != test.want || message != test.err {
			t.Errorf("transport %q with vmm %q: %q, %q; want %q, %q", test.asked, test.vmm, got, message, test.want, test.err)
		}
	}
	if _, err := chooseTransport("krun", "qemu"); !errors.Is(err, ErrTransport) {
		t.Errorf("%v is not ErrTransport", err)
	}
}

func TestATransportDecidesTheVMM(t *testing.T) {
	for transport, want := range map[string]string{"krun": "krun", "vhost-user": "qemu", "virtiofsd": "qemu"} {
		if got := autoVMM(transport); got != want {
			t.Errorf("vmm auto with transport %s: %s, want %s", transport, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
