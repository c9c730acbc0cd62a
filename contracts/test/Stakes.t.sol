// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Base58} from "@openzeppelin/contracts/utils/Base58.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {Vm} from "forge-std/Test.sol";

import {Activity} from "../src/Activity.sol";
import {PeerKeys} from "../src/PeerKeys.sol";
import {Settlement} from "../src/Settlement.sol";
import {Slashing} from "../src/Slashing.sol";
import {Stakes} from "../src/Stakes.sol";
import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {Terms} from "../src/Terms.sol";
import {CallbackToken} from "./mocks/Tokens.sol";
import {StakedSwarmTest} from "./SwarmTest.sol";

contract StakesTest is StakedSwarmTest {
    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;
    bytes32 private constant ROOT = keccak256("root");
    bytes32 private constant OTHER = keccak256("other root");

    Vm.Wallet private peer = key(11);
    Vm.Wallet private owner = key(12);
    Vm.Wallet private next = key(13);

    function setUp() public override {
        super.setUp();
        register(peer);
    }

    // ---- staking

    function testFuzz_aPeerIsActiveOnceItIsStaked(uint256 first, uint256 second, address sender) public {
        vm.assume(sender != address(0) && sender != address(registry));
        first = bound(first, 0, STAKE - 1);
        second = bound(second, STAKE - first, 1e30);
        stake(peer.addr, first);
        assertEq(registry.activeCount(0), 0);
        vm.expectRevert(abi.encodeWithSelector(Activity.NotStaked.selector, peer.addr));
        vm.prank(peer.addr);
        registry.checkIn();

        stakeToken.mint(sender, second);
        vm.startPrank(sender);
        stakeToken.approve(address(registry), second);
        vm.expectEmit();
        emit Stakes.Staked(peer.addr, sender, second);
        registry.stake(peer.addr, second);
        vm.stopPrank();
        assertFalse(registry.isActive(peer.addr, 0)); // a stake is no sign of life
        vm.prank(peer.addr);
        registry.checkIn();
        assertTrue(registry.isActive(peer.addr, 0));
        assertEq(registry.activeCount(0), 1);
        expectStake(peer.addr, first + second, 0);
    }

    function testFuzz_onlyAPeerIsStakedFor(address nobody) public {
        vm.assume(nobody != peer.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, nobody));
        registry.stake(nobody, 1);
        Terms memory plain = terms();
        (plain.stakeToken, plain.stakeAmount) = (address(0), 0);
        registry = deploy(plain);
        register(peer);
        vm.expectRevert(Stakes.NoStakes.selector);
        registry.stake(peer.addr, 1);
    }

    function testFuzz_aStakeGoesBackToItsHolderAfterTheUnbonding(bool owned, address sender, uint256 wait) public {
        wait = bound(wait, 0, 2 * uint256(UNBONDING));
        address holder = owned ? owner.addr : peer.addr;
        if (owned) link(peer, owner.addr);
        stakeAndCheckIn();
        if (sender != holder) {
            vm.expectRevert(abi.encodeWithSelector(Stakes.NotStakeHolder.selector, sender, holder));
            vm.prank(sender);
            registry.requestUnstake(peer.addr);
        }
        vm.expectEmit();
        emit Stakes.UnstakeRequested(peer.addr, GENESIS + UNBONDING);
        vm.prank(holder);
        registry.requestUnstake(peer.addr);
        assertFalse(registry.isActive(peer.addr, 0));
        assertEq(registry.activeCount(0), 0);
        assertEq(registry.activeCount(3), 0);

        skip(wait);
        bool early = wait < UNBONDING;
        if (early) vm.expectRevert(abi.encodeWithSelector(Stakes.Unbonding.selector, peer.addr, GENESIS + UNBONDING));
        vm.prank(sender);
        registry.withdrawStake(peer.addr);
        assertEq(stakeToken.balanceOf(holder), early ? 0 : STAKE);
        if (early) return;
        expectStake(peer.addr, 0, 0);
        stake(peer.addr, STAKE); // and it may begin again
        vm.prank(peer.addr);
        registry.checkIn();
        assertEq(registry.activeCount(registry.currentEpoch()), 1);
    }

    function test_whatIsNotStakedIsNotAskedBack() public {
        bytes memory nothing = abi.encodeWithSelector(Stakes.NothingStaked.selector, peer.addr);
        vm.startPrank(peer.addr);
        vm.expectRevert(nothing);
        registry.requestUnstake(peer.addr);
        vm.expectRevert(abi.encodeWithSelector(Stakes.NotUnbonding.selector, peer.addr));
        registry.withdrawStake(peer.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, next.addr));
        registry.requestUnstake(next.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, next.addr));
        registry.withdrawStake(next.addr);
        vm.stopPrank();
        stakeAndCheckIn();
        bytes memory unbonding = abi.encodeWithSelector(Stakes.Unbonding.selector, peer.addr, GENESIS + UNBONDING);
        vm.startPrank(peer.addr);
        registry.requestUnstake(peer.addr);
        vm.expectRevert(unbonding);
        registry.requestUnstake(peer.addr);
        vm.expectRevert(unbonding); // a stranger's grain of stake must not keep it in
        registry.stake(peer.addr, 1);
        vm.expectRevert(abi.encodeWithSelector(Activity.NotStaked.selector, peer.addr));
        registry.checkIn();
    }

    function test_whoLeavesKeepsItsPartInWhatIsSettled() public {
        Vm.Wallet[] memory wallets = stakedPeers(4);
        vm.warp(startOf(2));
        post(wallets, 0, ROOT, 1);
        assertEq(registry.activeCount(0), 4);
        vm.prank(wallets[3].addr);
        registry.requestUnstake(wallets[3].addr);
        assertEq(registry.activeCount(0), 4);
        assertEq(registry.activeCount(1), 3);
        assertEq(registry.quorum(1), 3);
        skip(EPOCH);
        post(wallets, 1, ROOT, 1);
    }

    function test_theStakeMovesAlongWithTheKey() public {
        link(peer, owner.addr);
        stakeAndCheckIn();
        rotate(peer.addr, next);
        expectStake(next.addr, STAKE, 0);
        assertTrue(registry.isActive(next.addr, 0));
        vm.startPrank(owner.addr);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, peer.addr));
        registry.requestUnstake(peer.addr);
        registry.requestUnstake(next.addr);
        assertEq(registry.activeCount(0), 0);
        skip(UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(PeerKeys.NotRegistered.selector, peer.addr));
        registry.withdrawStake(peer.addr);
        registry.withdrawStake(next.addr);
        assertEq(stakeToken.balanceOf(owner.addr), STAKE);
    }

    function test_aPauseHoldsNoStakeBack() public {
        stakeAndCheckIn();
        pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        registry.stake(peer.addr, 1);
        vm.prank(peer.addr);
        registry.requestUnstake(peer.addr);
        skip(UNBONDING);
        registry.withdrawStake(peer.addr);
        assertEq(stakeToken.balanceOf(peer.addr), STAKE);
    }

    function test_noCallbackCountsTwice() public {
        CallbackToken token = new CallbackToken();
        Terms memory hostile = terms();
        hostile.stakeToken = address(token);
        registry = deploy(hostile);
        register(peer);
        token.mint(address(this), 2);
        token.approve(address(registry), 2);
        Settlement.Attestation memory none;
        Slashing.Announcement memory nothing;
        bytes[4] memory calls = [
            abi.encodeCall(registry.stake, (peer.addr, 1)),
            abi.encodeCall(registry.withdrawStake, peer.addr),
            abi.encodeCall(registry.slashSettlement, (0, none, none)),
            abi.encodeCall(registry.slashAnnouncement, (0, 0, "", nothing, nothing))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            token.callBack(address(registry), calls[i]);
            vm.expectRevert(ReentrancyGuard.ReentrancyGuardReentrantCall.selector);
            registry.stake(peer.addr, 1);
        }
    }

    // ---- slashing for two settlements

    function testFuzz_twoSettlementsOfOneEpochCostTheStake(uint64 epoch, uint256 total, bool unbonding, address sender)
        public
    {
        stakeAndCheckIn();
        if (unbonding) {
            vm.prank(peer.addr);
            registry.requestUnstake(peer.addr);
        }
        Settlement.Attestation memory first = attestation(peer, epoch, ROOT, total);
        Settlement.Attestation memory second = attestation(peer, epoch, OTHER, total);
        vm.expectEmit();
        emit Slashing.SettlementEquivocated(
            peer.addr,
            epoch,
            registry.settlementDigest(epoch, ROOT, DATA, total),
            registry.settlementDigest(epoch, OTHER, DATA, total)
        );
        vm.expectEmit();
        emit Stakes.StakeSlashed(peer.addr, peer.addr, STAKE);
        vm.prank(sender);
        registry.slashSettlement(epoch, first, second);
        assertEq(stakeToken.balanceOf(BURNED), STAKE);
        expectStake(peer.addr, 0, 0);
        assertFalse(registry.isActive(peer.addr, 0));
        assertEq(registry.activeCount(0), 0);
        vm.expectRevert(abi.encodeWithSelector(Stakes.NothingStaked.selector, peer.addr));
        registry.slashSettlement(epoch, first, second);
    }

    function test_onlyTwoStatementsOfOnePeerAreAnOffence() public {
        stakeAndCheckIn();
        register(next);
        stake(next.addr, STAKE);
        Settlement.Attestation memory first = attestation(peer, 5, ROOT, 1);
        vm.expectRevert(Slashing.NotTwoStatements.selector);
        registry.slashSettlement(5, first, first);
        Settlement.Attestation memory second = attestation(next, 5, OTHER, 1);
        vm.expectRevert(abi.encodeWithSelector(Slashing.NotOneSigner.selector, peer.addr, next.addr));
        registry.slashSettlement(5, first, second);
        second = attestation(peer, 6, OTHER, 1); // of another epoch
        vm.expectPartialRevert(Slashing.NotOneSigner.selector);
        registry.slashSettlement(5, first, second);
        second = attestation(peer, 5, OTHER, 1);
        second.signature = malleated(second.signature);
        vm.expectPartialRevert(ECDSA.ECDSAInvalidSignatureS.selector);
        registry.slashSettlement(5, first, second);
        expectStake(peer.addr, STAKE, 0);
    }

    function testFuzz_noiseSlashesNobody(bytes memory noise, bytes memory more) public {
        stakeAndCheckIn();
        Settlement.Attestation memory first = attestation(peer, 5, ROOT, 1);
        Settlement.Attestation memory second = Settlement.Attestation(OTHER, DATA, 1, noise);
        vm.expectRevert();
        registry.slashSettlement(5, first, second);
        first.signature = more;
        vm.expectRevert();
        registry.slashSettlement(5, first, second);
        (Slashing.Announcement memory a, Slashing.Announcement memory b) = announcements("7/answer");
        b.signature = noise;
        vm.expectRevert();
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), "7/answer", a, b);
    }

    function testFuzz_noNewKeyShakesOffAnOffence(uint256 wait) public {
        wait = bound(wait, 0, 2 * uint256(UNBONDING));
        link(peer, owner.addr);
        stakeAndCheckIn();
        Settlement.Attestation memory first = attestation(peer, 5, ROOT, 1);
        Settlement.Attestation memory second = attestation(peer, 5, OTHER, 1);
        rotate(peer.addr, next);
        rotate(next.addr, key(14));
        skip(wait);
        bool tooLate = wait >= UNBONDING;
        if (tooLate) vm.expectRevert(abi.encodeWithSelector(Stakes.NothingStaked.selector, peer.addr));
        registry.slashSettlement(5, first, second);
        expectStake(key(14).addr, tooLate ? STAKE : 0, 0);
        assertEq(registry.isActive(key(14).addr, 0), tooLate);
    }

    // ---- slashing for two announcements

    function testFuzz_twoAnswersInOneSlotCostTheStake(uint64 round, uint8 stage, uint256 secret) public {
        peer = key(bound(secret, 1000, type(uint128).max));
        register(peer);
        stakeAndCheckIn();
        string memory slot = string.concat(vm.toString(round), ["/answer", "/critique", "/revise"][stage % 3]);
        (Slashing.Announcement memory first, Slashing.Announcement memory second) = announcements(slot);
        vm.expectEmit();
        emit Slashing.AnnouncementEquivocated(peer.addr, slot, keccak256(first.value), keccak256(second.value));
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), slot, first, second);
        expectStake(peer.addr, 0, 0);
        assertEq(stakeToken.balanceOf(BURNED), STAKE);
    }

    function test_onlySlotsThatHoldOneWordCount() public {
        stakeAndCheckIn();
        string[10] memory others =
            ["live", "", "/answer", "7", "7/", "7/answers", "7/answer/", "a7/answer", "7a/answer", "7/done"];
        for (uint256 i = 0; i < others.length; ++i) {
            expectAnnouncementRefused(others[i], abi.encodeWithSelector(Slashing.NotAFinalSlot.selector, others[i]));
        }
        expectAnnouncementRefused("7:/answer", abi.encodeWithSelector(Slashing.NotAFinalSlot.selector, "7:/answer"));
    }

    function test_oneValueWithTwoExpiriesIsNoOffence() public {
        stakeAndCheckIn();
        Slashing.Announcement memory first = announcement("7/answer", "value", 1);
        Slashing.Announcement memory second = announcement("7/answer", "value", 2);
        vm.expectRevert(Slashing.NotTwoStatements.selector);
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), "7/answer", first, second);
    }

    function test_anAnnouncementIsSlashedOnlyAsItWasSigned() public {
        stakeAndCheckIn();
        (Slashing.Announcement memory first, Slashing.Announcement memory second) = announcements("7/answer");
        expectNotOneSigner("8/answer", first, second);
        second.expiryMs += 1;
        expectNotOneSigner("7/answer", first, second);
        second.expiryMs -= 1;
        first.value = "forged";
        expectNotOneSigner("7/answer", first, second);
        (first,) = announcements("7/answer");
        second.signature[64] = bytes1(uint8(second.signature[64]) + 29);
        vm.expectRevert(ECDSA.ECDSAInvalidSignature.selector);
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), "7/answer", first, second);
        address other = address(deploy(terms()));
        vm.expectPartialRevert(Slashing.NotOneSigner.selector); // signed for another swarm
        SwarmRegistry(other)
            .slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), "7/answer", first, first0(first));
    }

    // ---- hands

    function stakeAndCheckIn() private {
        stake(peer.addr, STAKE);
        vm.prank(peer.addr);
        registry.checkIn();
    }

    function announcements(string memory slot)
        private
        view
        returns (Slashing.Announcement memory first, Slashing.Announcement memory second)
    {
        return (announcement(slot, "one", 1_800_000_000_000), announcement(slot, "another", 1_800_000_000_001));
    }

    /// @dev As swarm/network/announcements.py signs, written anew here.
    function announcement(string memory slot, bytes memory value, uint64 expiryMs)
        private
        view
        returns (Slashing.Announcement memory)
    {
        string memory swarm = string.concat(vm.toString(block.chainid), ":", vm.toString(address(registry)));
        bytes memory id = abi.encodePacked(hex"002508021221", uint8(2 + peer.publicKeyY % 2), peer.publicKeyX);
        bytes memory packed = abi.encodePacked(uint64(20), "swarm announcement 1", uint64(bytes(swarm).length), swarm);
        packed = abi.encodePacked(packed, uint64(bytes(slot).length), slot);
        packed = abi.encodePacked(packed, uint64(bytes(Base58.encode(id)).length), Base58.encode(id));
        packed = abi.encodePacked(packed, uint64(value.length), value, uint64(8), expiryMs);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(peer.privateKey, keccak256(packed));
        return Slashing.Announcement(value, expiryMs, abi.encodePacked(r, s, v - 27));
    }

    /// @dev The same with another value, so that only the signatures speak.
    function first0(Slashing.Announcement memory given) private pure returns (Slashing.Announcement memory) {
        return Slashing.Announcement("more", given.expiryMs, given.signature);
    }

    function expectStake(address of_, uint256 amount, uint64 withdrawableAt) private view {
        (uint256 found, uint64 from) = registry.stakeOf(of_);
        assertEq(found, amount);
        assertEq(from, withdrawableAt);
    }

    function expectAnnouncementRefused(string memory slot, bytes memory reason) private {
        (Slashing.Announcement memory first, Slashing.Announcement memory second) = announcements(slot);
        vm.expectRevert(reason);
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), slot, first, second);
    }

    function expectNotOneSigner(
        string memory slot,
        Slashing.Announcement memory first,
        Slashing.Announcement memory second
    ) private {
        vm.expectPartialRevert(Slashing.NotOneSigner.selector);
        registry.slashAnnouncement(bytes32(peer.publicKeyX), bytes32(peer.publicKeyY), slot, first, second);
    }
}
