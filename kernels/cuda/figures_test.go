//go:build nvidia

package cuda

import "testing"

// The table has every kernel for each of its architectures.
func TestStaticTableIsComplete(t *testing.T) {
	for _, architecture := range []string{"sm_80", "sm_90a"} {
		rows, err := tableRows(architecture)
		if err != nil {
			t.Fatal(err)
		}
		kernels := 0
		for _, image := range images() {
			for _, entry := range entries.FindAllStringSubmatch(image, -1) {
				kernels++
				if r, ok := rows[entry[1]]; !ok || r.registers < 1 || r.registers > 255 || r.shared < 0 || r.shared > 48<<10 {
					t.Errorf("%s, %s: %+v", entry[1], architecture, r)
				}
			}
		}
		if len(rows) != kernels {
			t.Errorf("%s: %d rows for %d kernels", architecture, len(rows), kernels)
		}
	}
	if rows, err := tableRows(tableArchitecture(89)); err != nil || len(rows) != 0 {
		t.Errorf("capability 8.9 has %d rows, %v", len(rows), err)
	}
}

// Static shared memory is declared in the PTX, so whatever makes code of it has the bytes
// that ptxas has, which rounds them up to 128 if launches ask for more.
func TestFiguresAreThoseOfTheTable(t *testing.T) {
	needDevice(t)
	all, err := Figures(0)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range all {
		if i > 0 && f.Kernel <= all[i-1].Kernel {
			t.Errorf("%s follows %s", f.Kernel, all[i-1].Kernel)
		}
		if f.Local != 0 {
			t.Errorf("%s: %d bytes of local memory", f.Kernel, f.Local)
		}
		if unused := f.TableShared - f.Shared; f.Table != "" && (unused < 0 || unused >= 128) {
			t.Errorf("%s: %d bytes of shared memory, the table has %d for %s", f.Kernel, f.Shared, f.TableShared, f.Table)
		}
	}
}

// withArray is a kernel whose threads have an array of 24 bytes, as a spill would be.
const withArray = `
.version 8.0
.target sm_80
.address_size 64
.visible .entry with_array()
{
	.local .align 8 .b8 array[24];
	ret;
}
`

func TestFiguresSeeLocalMemory(t *testing.T) {
	needDevice(t)
	d, err := openDevice(0, map[string]string{"array.ptx": withArray})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if d.name != "rmtrain emulator" {
		t.Skip("a compiler leaves the array out, as nothing uses it")
	}
	all, err := d.figures()
	if err != nil || len(all) != 1 || all[0].Kernel != "with_array" || all[0].Local != 24 {
		t.Errorf("%+v, %v", all, err)
	}
}
