package overload

import "testing"

func TestAnAccountIsFullInSteps(t *testing.T) {
	a := NewAccount(4000)
	if a.Limit() != 1000 || NewAccount(0).Limit() != DefaultHeld {
		t.Fatalf("limits of %d and %d", a.Limit(), NewAccount(0).Limit())
	}
	was := int64(0)
	for _, step := range []struct {
		held int64
		want Level
	}{{0, Ample}, {249, Ample}, {250, Lean}, {499, Lean}, {500, Full}, {999, Full}, {1000, Brim}, {5000, Brim}, {10, Ample}} {
		a.Move(was, step.held)
		if was = step.held; a.Level() != step.want || a.Held() != step.held {
			t.Errorf("with %d held of 1000: level %d with %d, want %d", step.held, a.Level(), a.Held(), step.want)
		}
	}
	if a.Move(was, 0); a.Held() != 0 || a.holders.Load() != 0 {
		t.Errorf("%d bytes of %d holders are left", a.Held(), a.holders.Load())
	}
}

func TestWhoHoldsLessThanItsShareKeepsIt(t *testing.T) {
	a := NewAccount(4000)
	a.Move(0, 400)
	if a.Above(400) {
		t.Error("there is room, and one is to give up")
	}
	a.Move(0, 100)
	a.Move(0, 10)
	for held, want := range map[int64]bool{400: true, 167: true, 166: false, 100: false, 0: false} { // 500 for three
		if a.Above(held) != want {
			t.Errorf("a holder of %d gives up: %t", held, !want)
		}
	}
}

func TestNoAccountIsNeverFull(t *testing.T) {
	var a *Account
	a.Move(0, 1<<40)
	if a.Held() != 0 || a.Limit() != 0 || a.Level() != Ample || a.Above(1<<40) {
		t.Error("no limit is a limit")
	}
}
