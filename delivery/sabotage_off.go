//go:build !sabotage

package delivery

import "hydrant/buffer"

// Faults that a build with the tag "sabotage" can switch on, to show that the tests notice them. Here they
// are constants, so nothing of them is left in the program. To send an object before its manifest is durable
// is none of them: the buffer gives nobody the bytes of one before.
const (
	sabotageNewKey          = false // give an object another key when it is sent again
	sabotageDropLate        = false // take an object for delivered after some attempts
	sabotageReplaceSent     = false // replace an object that may have been stored, without looking
	sabotageConfirmEarly    = false // confirm an object before its answer
	sabotageConfirmStaged   = false // confirm an object when it is staged, before its load
	sabotageGiveUpUnasked   = false // give an object up without asking the database
	sabotageMixVersions     = false // name objects by the version before the one that gave them their form
	sabotageAllSlots        = false // let one destination have all upload slots
	sabotageWaitForStore    = false // wait for the destinations at the start
	sabotageMixEpochs       = false // let a new version go on with the epoch of the one before
	sabotageAskAgain        = false // ask a function once more about what stands in a run
	sabotageMarkTwice       = false // send markers before it is durable what is in them
	sabotageMarkUnsettled   = false // list objects in markers that are not delivered yet
	sabotageSendUnaccounted = false // send objects before it is durable that a marker has to list them
	sabotageForgetMark      = false // let a start, or a new version, begin without the watermark
)

func (m *Manager) waitForStores() {}

func (j *job) askAgain(row *buffer.RunRow) bool { return true }
